"""Outdoor configs: names agree, real layouts pass through, each takes a step."""

import copy
import json

import numpy as np
import pytest
import torch

from pointins_plugin.cli import main_worker
from pointins_plugin.datasets.lidar_benchmarks import NUSCENES, SEMANTIC_KITTI
from pointins_plugin.datasets.street_files import (
    write_nuscenes,
    write_semantic_kitti,
)
from pointins_plugin.datasets.street_layout import CLASSES, STUFF
from pointins_plugin.evaluation.grouping import Grouping
from pointins_plugin.host import (
    TRANSFORMS,
    Config,
    build_dataset,
    build_model,
    collate_fn,
    default_config_parser,
)
from pointins_plugin.paths import config_root

ROOT = config_root() / "pointins"
DATA = ("semantickitti", "nuscenes", "streets")
TASKS = ("panoptic", "semseg")
PROBES = ("lin", "dec", "ft", "scratch")
VARIANTS = ("", "-dos", "-sonata", "-sonata-offset")


def read(stem):
    return Config.fromfile(ROOT / f"{stem}.py")


def shrink(model):
    """Give a model's backbone as few channels as its structure allows."""
    backbone = model.backbone
    stages = len(backbone.enc_depths)
    backbone.update(
        enc_depths=(1,) * stages,
        enc_channels=(8,) * stages,
        enc_num_head=(1,) * stages,
        enc_patch_size=(32,) * stages,
        enable_flash=False,
    )
    if backbone.get("enc_mode") is False:
        backbone.update(
            dec_depths=(1,) * (stages - 1),
            dec_channels=(8,) * (stages - 1),
            dec_num_head=(1,) * (stages - 1),
            dec_patch_size=(32,) * (stages - 1),
        )
    if "backbone_out_channels" in model:
        model.backbone_out_channels = 8 * stages if backbone.enc_mode else 8
    if "semantic" in model:
        model.semantic.update(hidden_channels=8, embed_channels=8, num_prototypes=8)
    return model


def scan(num_classes, n=300):
    generator = torch.Generator().manual_seed(0)
    coord = torch.rand(n, 3, generator=generator) * 5
    return {
        "coord": coord,
        "grid_coord": (coord * 10).long(),
        "feat": torch.randn(n, 4, generator=generator),
        "offset": torch.tensor([n // 2, n]),
        "segment": torch.randint(-1, num_classes, (n,), generator=generator),
        "instance": torch.randint(-1, 4, (n,), generator=generator),
        "instance_centroid": torch.rand(n, 3, generator=generator),
    }


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("data", DATA)
def test_a_step_and_an_evaluation(data, task, probe):
    cfg = read(f"{data}-{task}-{probe}")
    torch.manual_seed(0)
    model = build_model(shrink(copy.deepcopy(cfg.model)))
    batch = scan(cfg.data.num_classes)
    model(dict(batch))["loss"].backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None}
    assert ("backbone.enc." in " ".join(learns)) == (probe in ("ft", "scratch"))
    assert ("backbone.dec." in " ".join(learns)) == (probe != "lin")
    with torch.no_grad():
        output = model.eval()(dict(batch))
    assert torch.isfinite(output["loss"])
    assert ("pred_instance" in output) == (task == "panoptic")
    needs = "CheckpointLoader" if probe == "scratch" else "PretrainedLoader"
    assert cfg.hooks[0].type == needs


@pytest.mark.parametrize(
    ("data", "names", "stuff", "min_points"),
    [
        ("semantickitti", SEMANTIC_KITTI.names, SEMANTIC_KITTI.stuff, 50),
        ("nuscenes", NUSCENES.names, NUSCENES.stuff, 15),
        ("streets", CLASSES, STUFF, 30),
    ],
)
def test_names_things_and_rules(data, names, stuff, min_points):
    cfg = read(f"{data}-panoptic-lin")
    assert tuple(cfg.data.names) == names
    assert cfg.data.num_classes == cfg.model.semantic_num_classes == len(names)
    assert tuple(cfg.data.stuff) == stuff
    assert set(cfg.data.things) == set(names) - set(stuff)
    ignored = (-1, *map(names.index, stuff))
    assert tuple(cfg.model.segment_ignore_index) == ignored
    for part in ("train", "val", "test"):
        (parser,) = (
            t for t in cfg.data[part].transform if t["type"] == "ThingInstances"
        )
        assert tuple(parser.segment_ignore_index) == ignored
    (evaluator,) = (h for h in cfg.hooks if h["type"] == "PanopticEvaluator")
    assert evaluator.min_points == cfg.test.min_points == min_points
    assert read(f"{data}-semseg-lin").data.names == cfg.data.names


@pytest.mark.parametrize("data", DATA)
def test_encoders_are_those_of_pre_training(data):
    pretrain = read(f"{data}-pretrain").model.backbone
    probe = read(f"{data}-panoptic-lin").model
    shared = {k: v for k, v in pretrain.items() if k not in ("traceable", "mask_token")}
    assert {**probe.backbone, **shared} == probe.backbone
    assert probe.backbone_out_channels == sum(pretrain.enc_channels)
    assert probe.backbone.in_channels == 4


@pytest.mark.parametrize("data", DATA)
def test_baselines_differ_in_branch_and_objective_only(data):
    ours, dos, sonata, both = (read(f"{data}-pretrain{suffix}") for suffix in VARIANTS)
    assert dos.data == ours.data
    assert sonata.data == both.data
    assert dos.model.pop("offset_branch") is sonata.model.pop("offset_branch") is None
    assert ours.model.pop("offset_branch") == both.model.pop("offset_branch")
    assert ours.model == dos.model
    assert both.model == sonata.model


@pytest.mark.parametrize("data", ["semantickitti", "nuscenes"])
def test_lidar_preset(data):
    cfg = read(f"{data}-pretrain")
    stride = np.prod(cfg.model.backbone.stride[: -cfg.model.up_cast_level])
    assert cfg.grid_size * stride == pytest.approx(0.2)
    assert cfg.model.mask_size_base == 1.0
    (views,) = (t for t in cfg.data.train.transform if "MultiView" in t["type"])
    assert views["even_range"] == 5.0
    (collect,) = (t for t in cfg.data.train.transform if t["type"] == "Collect")
    assert tuple(collect["global_feat_keys"]) == ("global_coord", "global_strength")


@pytest.mark.parametrize("data", ["semantickitti", "nuscenes", "streets"])
def test_ground_is_left_out_where_offsets_become_instances(data):
    cfg = read(f"{data}-pretrain")
    assert cfg.model.offset_branch.ground == {"height": 0.2}
    for hook in cfg.hooks:
        if hook["type"] == "LabelFreeInstanceEvaluator":
            assert hook["ground"] == cfg.model.offset_branch.ground
    ground = dict(cfg.model.offset_branch.ground)
    grouping = Grouping(radius=0.1, bandwidth=0.3, ground=ground)
    step = np.arange(-10, 10, 0.2)
    road = np.stack([*np.meshgrid(step, step), np.zeros((100, 100))], -1)
    wall = np.stack([*np.meshgrid(step, np.linspace(0.5, 3, 50)), np.ones((50, 100))])
    wall = wall[[0, 2, 1]].reshape(3, -1).T  # a plane, upright
    coord = np.concatenate([road.reshape(-1, 3), wall]).astype(np.float32)
    found = grouping.plane(coord)
    assert found[: -len(wall)].all()
    assert not found[-len(wall) :].any()


def test_streets_are_seen_from_the_sensor_in_pre_training_and_probes():
    """Heights and distances mean the same to the encoder everywhere."""
    for name in ("streets-pretrain", "streets-panoptic-lin", "streets-semseg-lin"):
        cfg = read(name)
        for part in ("train", "val"):
            steps = cfg.data[part].transform
            kinds = [step["type"] for step in steps]
            assert "CenterShift" not in kinds
            for step in steps:
                if step["type"] == "TrackedMultiViewGenerator":
                    (affine, *_) = step["global_transform"]
                    assert affine["center"] == "origin"
                    assert step["even_range"] == 5.0
                if step["type"] == "RandomRotate":
                    assert step["center"] == [0, 0, 0]


def test_twins_of_streets_differ_in_targets_only():
    ours, paper = (read(f"streets-pretrain{suffix}") for suffix in ("", "-paper"))
    for part in ("odr", "scr"):
        one, other = (cfg.model.offset_branch.pop(part) for cfg in (ours, paper))
        assert one != other
        assert one.keys() == other.keys()
    assert ours.model == paper.model
    assert ours.data == paper.data
    assert ours.hooks == paper.hooks


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """Streets in both layouts, as many as the train splits have sequences."""
    folder = tmp_path_factory.mktemp("layouts")
    few = {"beams": 32, "dropout": 0.9}
    write_semantic_kitti(folder / "semantickitti", {"train": 10}, **few)
    write_nuscenes(folder / "nuscenes", {"train": 1}, **few)
    return folder


@pytest.mark.parametrize("variant", ["", "-sonata-offset"])
@pytest.mark.parametrize("data", ["semantickitti", "nuscenes"])
def test_range_is_measured_from_the_sensor(layouts, data, variant):
    source = read(f"{data}-pretrain{variant}").data.train
    crop = TRANSFORMS.build(source.transform[0])
    dataset = build_dataset({**source, "data_root": str(layouts / data)})
    sensor = dataset.vehicle_from_sensor(dataset.data_list[0])[:2, 3]
    np.testing.assert_allclose(crop.center, sensor, atol=0.01)


def test_labels_are_those_of_the_benchmark_of_the_task():
    for probe in PROBES:
        for part in ("train", "val", "test"):
            assert read(f"nuscenes-semseg-{probe}").data[part].labels == "lidarseg"
            assert "labels" not in read(f"nuscenes-panoptic-{probe}").data[part]


@pytest.mark.parametrize("variant", ["", "-sonata-offset"])
@pytest.mark.parametrize("data", ["semantickitti", "nuscenes"])
def test_a_step_of_pre_training_on_the_real_layout(layouts, data, variant):
    cfg = read(f"{data}-pretrain{variant}")
    dataset = build_dataset({**cfg.data.train, "data_root": str(layouts / data)})
    np.random.seed(0)
    batch = collate_fn([dataset[0]])
    assert batch["global_feat"].shape[1] == 4
    torch.manual_seed(0)
    model = build_model(shrink(cfg.model)).train()
    model.set_progress(0.5)
    result = model(batch)
    result["loss"].backward()
    assert torch.isfinite(result["loss"])


def test_streets_from_training_to_a_test_report(tmp_path):
    cfg = read("streets-panoptic-scratch")
    shrink(cfg.model)
    cfg.update(epoch=1, eval_epoch=1, num_worker=0, save_path=str(tmp_path / "run"))
    for part in ("train", "val", "test"):
        cfg.data[part].update(num_scenes=2, beams=32, dropout=0.8)
    cfg.dump(tmp_path / "config.py")
    main_worker(default_config_parser(str(tmp_path / "config.py"), {}))
    for file in ("panoptic.json", "result/panoptic.json"):
        report = json.loads((tmp_path / "run" / file).read_text())
        assert report["scenes"] == 2
        assert report["min_points"] == 30
        assert 0 <= report["pq"] <= 100
        assert set(report["classes"]) == set(CLASSES)
