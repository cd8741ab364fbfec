"""Every shipped config: it reads, dumps, builds, trains and evaluates."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run

from pointins_plugin.cli import main
from pointins_plugin.datasets import FolderDataset
from pointins_plugin.host import (
    HOOKS,
    MODELS,
    TRAINERS,
    Compose,
    Config,
    build_model,
    default_config_parser,
    default_setup,
)
from pointins_plugin.models import PointINS
from pointins_plugin.paths import config_root

CONFIGS = sorted((config_root() / "pointins").glob("*.py"))


def transforms(dataset):
    """Yield the pipelines of a dataset's config, of each where it joins several."""
    for part in dataset.get("datasets", [dataset]):
        for key in ("transform", "view1_transform", "view2_transform"):
            if key in part:
                yield part[key]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_reads_dumps_and_builds(path, tmp_path):
    cfg = Config.fromfile(path)
    cfg.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py")._cfg_dict == cfg._cfg_dict
    for part in ("train", "val"):
        if cfg.data.get(part) is not None:
            assert [Compose(pipeline) for pipeline in transforms(cfg.data[part])]
    hooks = [HOOKS.build(entry) for entry in cfg.hooks]
    averages = any(hasattr(hook, "averages_teacher") for hook in hooks)
    assert averages == issubclass(MODELS.get(cfg.model.type), PointINS)
    groups = 1 + len(cfg.param_dicts or ())
    max_lr = cfg.scheduler.max_lr
    assert groups == (len(max_lr) if isinstance(max_lr, list) else 1)


def data_roots(value):
    if isinstance(value, dict):
        yield from [value["data_root"]] if "data_root" in value else []
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from data_roots(part)


def test_the_folder_of_data_sets_is_the_users(tmp_path, monkeypatch):
    """$POINTINS_DATA moves all of them, and leaves no key in the config."""
    (tmp_path / "mosd").mkdir()  # else it is looked for elsewhere
    monkeypatch.setenv("POINTINS_DATA", str(tmp_path))
    found = set()
    for path in CONFIGS:
        cfg = Config.fromfile(path)
        assert "root" not in cfg
        found |= set(data_roots(cfg._cfg_dict))
    assert {Path(root).parent for root in found} == {tmp_path}
    assert {"scannet", "s3dis", "nuscenes", "semantic_kitti", "mosd"} <= {
        Path(root).name for root in found
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny_run.thin_generators(monkeypatch)
        yield tiny_run.TinyData(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_trains_and_evaluates(path, data, tmp_path):
    """A whole run, small: data, steps, evaluation, checkpoint, test."""
    small = tiny_run.tiny(Config.fromfile(path), data, tmp_path)
    small.dump(tmp_path / "small.py")
    cfg = default_setup(default_config_parser(str(tmp_path / "small.py"), {}))
    trainer = TRAINERS.build({"type": cfg.train.type, "cfg": cfg})
    start = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.train()
    assert trainer.scheduler.last_epoch == cfg.scheduler.total_steps >= 1
    assert any(not torch.equal(start[k], v) for k, v in trained(trainer).items())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    values = {line["tag"]: line["value"] for line in map(json.loads, lines)}
    assert values["train_batch/loss"] is not None
    if cfg.evaluate:
        assert any(hook.type.endswith("Evaluator") for hook in cfg.hooks)
    assert cfg.evaluate == any(tag.startswith("val/") for tag in values)
    assert (tmp_path / "run" / "model" / "model_last.pth").is_file()
    if "test" in cfg.data:
        (report,) = (tmp_path / "run" / "result").glob("*.json")
        assert json.loads(report.read_text())["scenes"] > 0


def test_checkpoint_is_tested_on_its_own(data, tmp_path):
    """By the run's config.py, which stays as it is, to the scores at its end."""
    path = config_root() / "pointins" / "s3dis-semseg-scratch.py"
    small = tiny_run.tiny(Config.fromfile(path), data, tmp_path)
    small.dump(tmp_path / "small.py")
    words = ["--config-file", str(tmp_path / "small.py")]
    assert main(["train", *words]) == 0
    run = tmp_path / "run"
    report, config = (run / "result" / "semantic.json", run / "config.py")
    expected, before = json.loads(report.read_text()), config.read_text()
    report.unlink()
    weight = f"weight={run / 'model' / 'model_best.pth'}"
    words = ["--config-file", str(config), "--options", weight]
    assert main(["test", *words]) == 0
    assert json.loads(report.read_text()) == expected
    assert config.read_text() == before


def test_label_free_instances_are_scored_where_asked(data, tmp_path):
    path = config_root() / "pointins" / "scannet-pretrain.py"
    small = tiny_run.tiny(Config.fromfile(path), data, tmp_path)
    (scored,) = [h for h in small.hooks if h.type == "LabelFreeInstanceEvaluator"]
    scored.update(min_size=5, min_region=5)
    config = tmp_path / "config.py"
    small.dump(str(config))
    words = ["train", "--config-file", str(config), "--options"]
    run = tmp_path / "run"
    assert main([*words, "evaluate=False"]) == 0
    assert not (run / "label_free.json").exists()
    # of a run that has ended, as scripts/train.sh -r true goes on with it
    last = run / "model" / "model_last.pth"
    words[2] = str(run / "config.py")
    assert main([*words, "resume=True", f"weight={last}", "evaluate=True"]) == 0
    found = json.loads((run / "label_free.json").read_text())
    names = {"components", "modes", "plane_components", "oracle"}
    assert set(found["methods"]) == names
    assert found["offset_r2"] is not None


def test_pretraining_is_scored_on_the_data_it_reads():
    """A config that takes other data to train on takes them to evaluate, or none."""
    for path in (config_root() / "pointins").glob("*-pretrain*.py"):
        data = Config.fromfile(path).data
        parts = data.train.get("datasets", [data.train])
        if data.get("val") is not None:
            assert data.val.type in {part.type for part in parts}, path.name


def trained(trainer):
    """Return the weights of a model that learn."""
    return {k: v for k, v in trainer.model.named_parameters() if v.requires_grad}


@pytest.mark.parametrize(("gpus", "eighths"), [(1, 1), (4, 4)])
def test_fewer_gpus_keep_what_the_batch_does_not_change(gpus, eighths):
    """Learning rate by the root of the batch, momentum so that the teacher's memory
    spans as many scenes."""
    root = config_root() / "pointins"
    one, many = (
        Config.fromfile(root / f"scannet-pretrain{suffix}.py")
        for suffix in (f"-{gpus}gpu", "")
    )
    share = one.batch_size / many.batch_size
    assert share == eighths / 8
    for a, b in zip(one.scheduler.max_lr, many.scheduler.max_lr, strict=True):
        assert a == pytest.approx(b * share**0.5)
    assert one.optimizer.lr == one.scheduler.max_lr[0]
    assert one.model == many.model
    assert one.data == many.data
    momenta = [
        next(h for h in cfg.hooks if h["type"] == "EMATeacherHook")["momentum_base"]
        for cfg in (one, many)
    ]
    assert momenta[0] ** (1 / share) == pytest.approx(momenta[1])
    # as an option they would change nothing
    assert not {"lr", "base_lr", "share", "depths"} & {*one, *many}
    dos = Config.fromfile(root / f"scannet-pretrain-dos-{gpus}gpu.py")
    assert dos.model.offset_branch is None
    assert dos.scheduler == one.scheduler


@pytest.mark.parametrize("data", ["scannet", "s3dis", "rooms", "mosd"])
def test_contrast_baselines_share_the_backbone_and_differ_in_the_loss(data):
    root = config_root() / "pointins"
    ours, nce, hardest = (
        Config.fromfile(root / f"{data}-pretrain{suffix}.py")
        for suffix in ("", "-pointcontrast-nce", "-pointcontrast-hardest")
    )
    assert ours.model.backbone == nce.model.backbone == hardest.model.backbone
    for key in ("batch_size", "epoch", "optimizer", "scheduler", "param_dicts"):
        assert ours[key] == nce[key] == hardest[key]
    assert nce.model.pop("loss") != hardest.model.pop("loss")
    assert nce.model == hardest.model
    assert nce.data == hardest.data


def test_presets_are_spelled_out_and_twins_differ_in_nothing_else():
    root = config_root() / "pointins"
    for name, other in (
        ("mosd-pretrain", "mosd-pretrain-paper"),
        ("demo-pretrain", "demo-pretrain-paper"),
        ("scannet-pretrain", "scannet-pretrain-spatial"),
    ):
        a, b = (Config.fromfile(root / f"{stem}.py") for stem in (name, other))
        assert a.model.offset_branch.scr != b.model.offset_branch.scr
        assert a.model.offset_branch.scr.keys() == b.model.offset_branch.scr.keys()
        for cfg in (a, b):
            del cfg.model.offset_branch["scr"], cfg.model.offset_branch["odr"]
        assert a.model == b.model
        assert a.data == b.data
        assert a.hooks == b.hooks
    paper = Config.fromfile(root / "scannet-pretrain.py").model.offset_branch
    defaults = build_model({"type": "OffsetBranch", **paper})
    plain = {**paper, "scr": {"type": "SCRLoss"}, "odr": {"type": "ODRLoss"}}
    typed = build_model({"type": "OffsetBranch", **plain})
    for part in ("scr", "odr"):
        ours, theirs = vars(getattr(defaults, part)), vars(getattr(typed, part))
        simple = {
            k: v for k, v in ours.items() if isinstance(v, (int, float, str, bool))
        }
        assert simple
        assert all(theirs[key] == value for key, value in simple.items())


@pytest.mark.parametrize("objective", ["", "-sonata-offset", "-dos", "-sonata"])
@pytest.mark.parametrize("data", ["mosd", "rooms"])
def test_short_sparse_pretraining_differs_in_the_teachers_norms_alone(data, objective):
    """By the student's running statistics its targets are flat for half of a run."""

    def hooks(suffix):
        name = f"{data}-pretrain{objective}{suffix}.py"
        cfg = Config.fromfile(config_root() / "pointins" / name)
        return [dict(hook) for hook in cfg.hooks]

    sparse = hooks("-spunet")
    teachers = [hook for hook in sparse if hook["type"] == "EMATeacherHook"]
    assert teachers[0].pop("own_norms") is True
    assert sparse == hooks("")


def test_mosd_normals_face_the_camera(mosd_dir):
    """Of what one camera sees of an object, most faces away from the seen one's centre.

    With normals towards a point above the table it is 49 %, with the camera's 94 %.
    """
    root = config_root() / "pointins"
    pretrain = Config.fromfile(root / "mosd-pretrain.py").data
    downstream = Config.fromfile(root / "_base_" / "mosd.py").data
    splits = pretrain.train, pretrain.val, downstream.train, downstream.val
    eyes = {tuple(split.viewpoint) for split in (*splits, downstream.test)}
    assert len(eyes) == 1
    dataset = FolderDataset("val", str(mosd_dir), viewpoint=eyes.pop())
    away = []
    for index in range(4):
        scene = dataset[index]
        for number in np.unique(scene["instance"][scene["instance"] >= 0]):
            own = scene["instance"] == number
            outward = scene["coord"][own] - scene["coord"][own].mean(0)
            away.append((outward * scene["normal"][own]).sum(1) > 0)
    assert np.concatenate(away).mean() > 0.85
