"""Downstream configs: names agree, probes differ as they say, each takes a step."""

import copy

import pytest
import torch

from pointins_plugin.datasets.room_layout import CLASSES, STUFF
from pointins_plugin.host import Config, build_model
from pointins_plugin.paths import config_root

ROOT = config_root() / "pointins"
DATA = ("scannet", "scannet200", "s3dis", "rooms", "mosd")
TASKS = ("insseg", "semseg")
PROBES = ("lin", "dec", "ft", "scratch")
ALL = [f"{data}-{task}-{probe}" for data in DATA for task in TASKS for probe in PROBES]


def read(stem):
    return Config.fromfile(ROOT / f"{stem}.py")


def shrunk(cfg):
    """Return the model of a config with as few channels as its structure allows."""
    model = copy.deepcopy(cfg.model)
    backbone = model.backbone
    stages = len(backbone.enc_depths)
    backbone.update(
        enc_depths=(1,) * stages, enc_channels=(8,) * stages, enc_num_head=(1,) * stages
    )
    if not backbone.enc_mode:
        backbone.update(
            dec_depths=(1,) * (stages - 1),
            dec_channels=(8,) * (stages - 1),
            dec_num_head=(1,) * (stages - 1),
        )
    model.backbone_out_channels = 8 * stages if backbone.enc_mode else 8
    return model


def scene(num_classes, n=300):
    generator = torch.Generator().manual_seed(0)
    coord = torch.rand(n, 3, generator=generator)
    return {
        "coord": coord,
        "grid_coord": (coord * 20).long(),
        "feat": torch.randn(n, 9, generator=generator),
        "offset": torch.tensor([n // 2, n]),
        "segment": torch.randint(-1, num_classes, (n,), generator=generator),
        "instance": torch.randint(-1, 4, (n,), generator=generator),
        "instance_centroid": torch.rand(n, 3, generator=generator),
    }


@pytest.mark.parametrize("stem", ALL)
def test_a_step_and_an_evaluation(stem):
    cfg = read(stem)
    torch.manual_seed(0)
    model = build_model(shrunk(cfg))
    batch = scene(cfg.data.num_classes)
    model(dict(batch))["loss"].backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None}
    encoder = any(name.startswith("backbone.enc.") for name in learns)
    decoder = any(name.startswith("backbone.dec.") for name in learns)
    probe = stem.rsplit("-", 1)[1]
    assert encoder == (probe in ("ft", "scratch"))
    assert decoder == (probe != "lin")
    assert "seg_head.weight" in learns
    with torch.no_grad():
        output = model.eval()(dict(batch))
    assert torch.isfinite(output["loss"])
    expected = "pred_masks" if "-insseg-" in stem else "seg_logits"
    assert expected in output


@pytest.mark.parametrize("data", DATA)
def test_stuff_is_what_heads_and_parsers_leave_out(data):
    cfg = read(f"{data}-insseg-lin")
    names = list(cfg.data.names)
    assert len(names) == cfg.data.num_classes == cfg.model.semantic_num_classes
    ignored = (-1, *(names.index(name) for name in cfg.data.stuff))
    assert tuple(cfg.model.segment_ignore_index) == ignored
    for part in ("train", "val", "test"):
        parser = next(
            t for t in cfg.data[part].transform if t["type"] == "InstanceParser"
        )
        assert tuple(parser.segment_ignore_index) == ignored
    assert read(f"{data}-semseg-lin").data.names == cfg.data.names
    radius = cfg.model.cluster_thresh * cfg.model.voxel_size
    assert radius == pytest.approx(cfg.radius)
    sampler = next(t for t in cfg.data.val.transform if t["type"] == "GridSample")
    assert sampler.grid_size == cfg.model.voxel_size


def test_names_of_rooms():
    cfg = read("rooms-insseg-lin")
    assert tuple(cfg.data.names) == CLASSES
    assert tuple(cfg.data.stuff) == STUFF


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("data", DATA)
def test_probes_differ_in_backbone_and_start_only(data, task):
    lin, dec, ft, scratch = (read(f"{data}-{task}-{probe}") for probe in PROBES)
    for cfg in (lin, dec, ft, scratch):
        assert cfg.mix_prob == 0.8
        assert cfg.data == lin.data
    for cfg in (lin, dec, ft):
        assert cfg.hooks == lin.hooks
        assert cfg.hooks[0].type == "PretrainedLoader"
    assert scratch.hooks[1:] == lin.hooks[1:]
    assert scratch.model == ft.model
    assert ft.model.backbone.pop("freeze_encoder") is False
    assert dec.model.backbone.pop("freeze_encoder") is True
    assert ft.model == dec.model


SHORT = [
    *(f"{data}-{task}-{{}}" for data in ("rooms", "mosd") for task in TASKS),
    *(f"{data}-{task}-{{}}-spunet" for data in ("rooms", "mosd") for task in TASKS),
    *(f"streets-{task}-{{}}" for task in ("panoptic", "semseg")),
]


@pytest.mark.parametrize("stem", SHORT)
def test_short_schedules_tune_at_the_rates_of_random_weights(stem):
    ft, scratch = (read(stem.format(probe)) for probe in ("ft", "scratch"))
    assert {k for k in {*ft} | {*scratch} if ft.get(k) != scratch.get(k)} == {"hooks"}
    assert ft.hooks[0].type == "PretrainedLoader"
    assert scratch.hooks[1:] == ft.hooks[1:]


@pytest.mark.parametrize("data", ["rooms", "mosd"])
def test_small_encoders_are_those_of_pre_training(data):
    pretrain = read(f"{data}-pretrain").model.backbone
    probe = read(f"{data}-insseg-lin").model
    assert {**probe.backbone, **pretrain} == probe.backbone
    assert probe.backbone_out_channels == sum(pretrain.enc_channels)


def test_the_paper_scale_encoder_is_that_of_pre_training():
    pretrain = read("scannet-pretrain").model.backbone
    probe = read("scannet-insseg-lin").model
    shared = {k: v for k, v in pretrain.items() if k not in ("traceable", "mask_token")}
    assert {**probe.backbone, **shared} == probe.backbone
    assert probe.backbone_out_channels == sum(pretrain.enc_channels)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("data", ["scannet", "s3dis", "rooms", "mosd"])
def test_sparse_probes_are_twins_with_the_backbone_of_pre_training(data, task):
    lin, sparse, ft, scratch = (
        read(f"{data}-{task}-{probe}")
        for probe in ("lin", "lin-spunet", "ft-spunet", "scratch-spunet")
    )
    pretrain = read(f"{data}-pretrain-spunet").model
    assert sparse.model.backbone == pretrain.backbone
    channels = sparse.model.pop("backbone_out_channels")
    assert channels == pretrain.head_in_channels == pretrain.backbone.channels[-1]
    lin.model.pop("backbone_out_channels")
    assert lin.model.pop("backbone").type == "PT-v3m2"
    sparse.model.pop("backbone")
    assert sparse.model == lin.model
    for key in ("data", "hooks", "optimizer", "scheduler", "epoch", "mix_prob"):
        assert sparse[key] == lin[key]
    assert sparse.model.freeze_backbone is True
    assert ft.model.freeze_backbone is False
    assert scratch.model == ft.model
    assert scratch.hooks[0].type == "CheckpointLoader"
    assert ft.hooks == sparse.hooks
