"""Every shipped config, shrunk, trained and evaluated in Pointcept's own Trainer."""

import math
from pathlib import Path

import pytest
import small_runs

from pointins_plugin.host.standalone.checkpoint import load_checkpoint


@pytest.mark.parametrize("name", small_runs.names())
def test_config_trains(name, in_data, tmp_path):
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
