"""Pointcept's own configs, as they are in a checkout, run on the standalone host."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_run import CHANNELS, TinyData, tiny

from pointins_plugin.host import TRAINERS, default_config_parser, default_setup

# one of each kind of model, data and loss among those whose types the host has
CONFIGS = [
    "sonata/pretrain-sonata-v1m1-0-base",
    "sonata/insseg-sonata-v1m1-1a-scannet200-pg-lin",
    "scannet/semseg-spunet-v1m1-5-lovasz",
    "semantic_kitti/semseg-spunet-v1m1-0-base",
]


def shorten(cfg):
    """Make the heads of Sonata small, and show each scene once in an epoch."""
    for part in (cfg.data.train, *cfg.data.train.get("datasets", ())):
        part.loop = 1
    if cfg.model.type == "Sonata-v1m1":
        cfg.model.update(
            head_in_channels=3 * CHANNELS,
            head_hidden_channels=16,
            head_embed_channels=8,
            head_num_prototypes=16,
        )


@pytest.fixture(scope="module")
def checkout():
    root = os.environ.get("POINTCEPT_ROOT")
    if not root:
        pytest.skip("set POINTCEPT_ROOT to a checkout of Pointcept")
    return Path(root) / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return TinyData(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_pointcept_trains_and_tests(checkout, data, tmp_path, name):
    options = {"save_path": str(tmp_path / "run"), "enable_wandb": False}
    cfg = default_config_parser(str(checkout / f"{name}.py"), options)
    shorten(cfg)
    cfg = tiny(cfg, data, tmp_path)
    cfg.batch_size = 2
    trainer = TRAINERS.build({"type": cfg.train.type, "cfg": default_setup(cfg)})
    trainer.train()
    assert trainer.comm_info["model_output_dict"]["loss"].isfinite()
    if cfg.evaluate:
        assert "current_metric_value" in trainer.comm_info
