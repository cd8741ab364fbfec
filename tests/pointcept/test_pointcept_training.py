"""Every shipped config in Pointcept's own Trainer: all are built, some are trained."""

import functools
import math
from pathlib import Path

import pytest
import small_runs
import torch

from pointins_plugin.host import TRAINERS, Config, Trainer, collate_fn, default_setup
from pointins_plugin.host.standalone.checkpoint import load_checkpoint

# Together they hold every model, objective, loss, data set, transform, hook and tester
# that any config names.
TRAINED = """
demo-pretrain mosd-pretrain-paper mosd-pretrain-sonata-offset rooms-pretrain-dos-spunet
rooms-pretrain-contrast-offset rooms-pretrain-contrast rooms-pretrain-supervised-offset
scannet-pretrain s3dis-pretrain-pointcontrast-nce
scannetpair-pretrain-pointcontrast-hardest indoor-pretrain nuscenes-pretrain
semantickitti-pretrain-sonata-offset streets-pretrain mosd-insseg-lin scannet-insseg-ft
scannet200-insseg-scratch scannet-semseg-lin s3dis-semseg-dec nuscenes-panoptic-lin
semantickitti-panoptic-ft semantickitti-semseg-ft streets-panoptic-scratch
""".split()
# Models of Pointcept that the standalone host has under the same names.
THEIRS = {"PG-v1m2", "DefaultSegmentorV2"}


def parts(node):
    """Yield every ``type`` that a config holds."""
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node["type"]
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for part in node:
        yield from parts(part)


def test_trained_configs_hold_every_part():
    found = {
        name: set(parts(Config.fromfile(small_runs.path_of(name))._cfg_dict))
        for name in small_runs.names()
    }
    assert set().union(*found.values()) == set().union(*map(found.get, TRAINED))


@pytest.fixture
def shapes_only(monkeypatch):
    """Build models without values, and skip what takes longest: formatting a config."""
    # Read back by drop paths, so it must have values.
    linspace = functools.partial(torch.linspace, device="cpu")
    monkeypatch.setattr(torch, "linspace", linspace)
    for name in ("uniform_", "normal_", "trunc_normal_"):
        fill = f"_no_grad_{name}"
        monkeypatch.setattr(torch.nn.init, fill, lambda tensor, *_, **__: tensor)
    monkeypatch.setattr(Config, "pretty_text", "")
    build = Trainer.build_model

    def build_shapes(self):
        with torch.device("meta"):
            return build(self)

    monkeypatch.setattr(Trainer, "build_model", build_shapes)


@pytest.mark.parametrize("name", small_runs.names())
def test_config_builds(name, in_data, tmp_path, shapes_only):
    """At its full size, of which only the shapes are made; one sample of each split."""
    cfg = small_runs.parse(name, tmp_path)
    trainer = TRAINERS.build({"type": cfg.train.type, "cfg": default_setup(cfg)})
    assert type(trainer).__module__ == "pointcept.engines.train"
    model = type(trainer.model)
    if cfg.model.type in THEIRS:
        assert model.__module__.startswith("pointcept.models.")
    else:
        assert model.__module__.startswith("pointins_plugin.models.")
    assert [type(hook).__name__ for hook in trainer.hooks] == [
        hook["type"] for hook in cfg.hooks
    ]
    for loader in (trainer.train_loader, trainer.val_loader):
        if loader is not None:
            batch = collate_fn([loader.dataset[0]])
            assert all(len(batch[key]) for key in batch if key.endswith("coord"))
    if "test" in cfg.data:
        assert small_runs.test_sample(cfg)


@pytest.mark.parametrize("name", TRAINED)
def test_config_trains(name, in_data, tmp_path):
    """Shrunk: two steps, the evaluators and the tester."""
    cfg = small_runs.small_config(name, tmp_path)
    trainer = small_runs.train(cfg)
    assert type(trainer).__module__ == "pointcept.engines.train"
    assert trainer.scheduler.last_epoch >= 1
    output = trainer.comm_info["model_output_dict"]
    assert all(math.isfinite(value.item()) for value in output.values())
    checkpoint = load_checkpoint(str(tmp_path / "model" / "model_last.pth"))
    assert checkpoint["epoch"] == 1
    assert checkpoint["state_dict"].keys() == trainer.model.state_dict().keys()


def test_no_worker_asked_for(in_data, tmp_path):
    """Pointcept's loader cannot do without; a run takes one."""
    cfg = small_runs.small_config("mosd-pretrain-dos", tmp_path, num_worker=0)
    assert small_runs.train(cfg).train_loader.num_workers == 1


def test_user_error_keeps_its_type(in_data, tmp_path):
    """Pointcept would end the process with a traceback."""
    from pointins_plugin.errors import UserError

    cfg = small_runs.small_config("mosd-pretrain-dos", tmp_path)
    for path in Path("data/mosd/train").glob("*/normal.npy"):
        path.rename(path.with_suffix(".aside"))
        path.write_bytes(b"junk")
    try:
        with pytest.raises(UserError, match=r"normal\.npy") as caught:
            small_runs.train(cfg)
    finally:
        for path in Path("data/mosd/train").glob("*/normal.aside"):
            path.replace(path.with_suffix(".npy"))
    assert "\n" not in str(caught.value)
