"""The two hosts beside each other: losses agree, checkpoints cross."""

import json
import os
import subprocess
import sys
from pathlib import Path

import one_forward
import pytest
import small_runs
import torch

from pointins_plugin.host.standalone.checkpoint import load_checkpoint

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def standalone(*words, cwd):
    """Run Python on the standalone host."""
    path = os.pathsep.join(map(str, (ROOT, HERE)))
    environment = {k: v for k, v in os.environ.items() if k != "POINTCEPT_ROOT"}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": path, "POINTINS_HOST": "standalone"},
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "mosd-pretrain-paper",
        "mosd-pretrain-sonata-offset",
        "rooms-pretrain-spunet",
        "mosd-pretrain-dos",
    ],
)
def test_same_weights_and_batch_give_the_same_losses(name, in_data, tmp_path):
    one_forward.write(name, tmp_path)
    here = one_forward.losses(name, tmp_path)
    standalone(HERE / "one_forward.py", name, tmp_path, cwd=in_data)
    there = json.loads((tmp_path / "losses.json").read_text())
    assert here["loss"] > 0
    assert there == pytest.approx(here, abs=1e-4, rel=1e-4)


NAME = "mosd-pretrain-dos"
_TRAIN = """
import sys, pathlib, small_runs
folder = pathlib.Path(sys.argv[2])
cfg = small_runs.small_config(sys.argv[1], folder, **eval(sys.argv[3]))
small_runs.train(cfg)
"""


def test_checkpoint_of_pointcept_loads_here_and_the_other_way(in_data, tmp_path):
    """Trained there, trained on by the other, every weight and moment taken."""
    first, second, third = (tmp_path / name for name in ("a", "b", "c"))
    for folder in (first, second, third):
        folder.mkdir()
    small_runs.train(small_runs.small_config(NAME, first))
    weight = str(first / "model" / "model_last.pth")
    options = {"weight": weight}
    standalone("-c", _TRAIN, NAME, second, options, cwd=in_data)
    log = (second / "train.log").read_text()
    assert "100.0% of the model's keys matched" in log
    weight = str(second / "model" / "model_last.pth")
    trainer = small_runs.train(
        small_runs.small_config(NAME, third, weight=weight, epoch=2, eval_epoch=2)
    )
    shapes = {k: v.shape for k, v in trainer.model.state_dict().items()}
    taken = load_checkpoint(weight)["state_dict"]
    assert {k: v.shape for k, v in taken.items()} == shapes


def test_resumes_where_it_stopped(in_data, tmp_path):
    """Two epochs in one go and in two parts: the same steps, optimizer and schedule."""
    options = {"epoch": 2, "eval_epoch": 2}
    cfg = small_runs.small_config(NAME, tmp_path, **options)
    saver = next(hook for hook in cfg.hooks if hook["type"] == "CheckpointSaver")
    saver["save_freq"] = 1
    whole = small_runs.train(cfg)
    half = str(tmp_path / "model" / "epoch_1.pth")
    cfg = small_runs.small_config(NAME, tmp_path, weight=half, resume=True, **options)
    resumed = small_runs.train(cfg)
    assert resumed.start_epoch == 1
    assert resumed.scheduler.last_epoch == whole.scheduler.last_epoch
    for hook, other in zip(whole.hooks, resumed.hooks, strict=True):
        if type(hook).__name__ == "EMATeacherHook":
            assert _plain(hook) == _plain(other)
    for ours, theirs in zip(
        whole.optimizer.state.values(), resumed.optimizer.state.values(), strict=True
    ):
        assert torch.equal(ours["step"], theirs["step"])


def _plain(hook):
    return {k: v for k, v in vars(hook).items() if isinstance(v, (int, float))}
