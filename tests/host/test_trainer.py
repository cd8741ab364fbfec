"""The trainer: determinism, accumulation, resuming, several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import toy_run

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRAINERS, HookBase, default_setup, launch
from pointins_plugin.host.standalone.checkpoint import load_checkpoint, save_checkpoint


def run(folder, **options):
    cfg = default_setup(toy_run.configure(folder, **options))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    trainer.train()
    return trainer


def losses(folder):
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    values = {}
    for line in map(json.loads, lines):
        if line["tag"] == "train_batch/loss":
            values[line["step"]] = line["value"]
    return values


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_same_seed_same_curve(tmp_path):
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert len(losses(tmp_path / "a")) == 16
    assert_same_weights(first.model.state_dict(), second.model.state_dict())
    other = run(tmp_path / "c", seed=8)
    assert losses(tmp_path / "c") != losses(tmp_path / "a")
    assert other.scheduler.last_epoch == 16


def test_workers_do_not_change_the_curve(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", num_worker=2)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_epochs_see_other_augmentations(tmp_path):
    seen = []

    class Spy(HookBase):
        def after_step(self):
            seen.append(self.trainer.comm_info["input_dict"]["x"].clone())

    cfg = default_setup(
        toy_run.configure(tmp_path, batch_size=16, epoch=2, eval_epoch=2)
    )
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    spy = Spy()
    spy.trainer = trainer
    trainer.hooks.append(spy)
    trainer.train()
    first, second = (x.sort(dim=0).values for x in seen)
    assert not torch.allclose(first, second)


def test_accumulation_is_one_step_in_k(tmp_path):
    trainer = run(tmp_path, gradient_accumulation_steps=4, epoch=2, eval_epoch=2)
    assert trainer.cfg.scheduler.total_steps == 2
    assert trainer.scheduler.last_epoch == 2


def test_accumulated_gradient_is_the_mean(tmp_path):
    """Four micro-batches of four give the gradient of one batch of sixteen."""

    def gradient(folder, **options):
        # one step of plain descent from the same start: the change is the gradient
        options |= {"epoch": 1, "eval_epoch": 1, "clip_grad": None}
        options |= {"optimizer": {"_delete_": True, "type": "SGD", "lr": 1.0}}
        options["scheduler"] = {"type": "PolyLR", "_delete_": True}
        options["hooks"] = []
        cfg = default_setup(toy_run.configure(folder, **options))
        trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
        trainer.model.student[1].p = 0.0
        trainer.model.teacher[1].p = 0.0
        start = trainer.model.student[0].weight.detach().clone()
        trainer.train()
        return trainer.model.student[0].weight.detach() - start

    whole = gradient(tmp_path / "a", batch_size=16)
    parts = gradient(tmp_path / "b", batch_size=4, gradient_accumulation_steps=4)
    torch.testing.assert_close(whole, parts)


def test_resumed_equals_uninterrupted(tmp_path):
    whole = run(tmp_path / "a")

    class Stop(HookBase):
        def before_epoch(self):
            if self.trainer.epoch == 2:
                raise KeyboardInterrupt

    cfg = default_setup(toy_run.configure(tmp_path / "b"))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    stop = Stop()
    stop.trainer = trainer
    trainer.hooks.append(stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    last = str(tmp_path / "b" / "run" / "model" / "model_last.pth")
    resumed = run(tmp_path / "b", resume=True, weight=last)
    assert resumed.start_epoch == 2
    assert_same_weights(whole.model.state_dict(), resumed.model.state_dict())
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_killed_at_any_moment_and_resumed(tmp_path):
    """SIGKILL, again and again, until the run gets through."""
    whole = run(tmp_path / "a")
    script = str(Path(toy_run.__file__))
    last = tmp_path / "b" / "run" / "model" / "model_last.pth"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    base = [sys.executable, script, str(tmp_path / "b"), "model.pause=0.05"]
    for attempt in range(3):
        words = ["resume=True", f"weight={last}"] if last.exists() else []
        process = subprocess.Popen([*base, *words], env=environment)
        deadline = time.time() + 60
        epoch = load_checkpoint(str(last))["epoch"] if last.exists() else 0
        while process.poll() is None and time.time() < deadline and attempt < 2:
            # kill in the middle of the epoch after the next checkpoint
            if last.exists() and load_checkpoint(str(last))["epoch"] > epoch:
                time.sleep(0.07)
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait(60)
    assert process.returncode == 0
    checkpoint = load_checkpoint(str(last))
    assert checkpoint["epoch"] == 4
    assert_same_weights(whole.model.state_dict(), checkpoint["state_dict"])


def test_two_processes_equal_one(tmp_path):
    """Ranks share the batch; gradients are averaged over them."""
    options = {"batch_size": 16, "epoch": 2, "eval_epoch": 2}
    launch(_train_without_dropout, 1, cfg=(str(tmp_path / "a"), options))
    launch(_train_without_dropout, 2, cfg=(str(tmp_path / "b"), options))
    one, two = (
        load_checkpoint(str(tmp_path / name / "run" / "model" / "model_last.pth"))
        for name in "ab"
    )
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(
            two["state_dict"][f"module.{name}"], value, atol=1e-5, rtol=0
        )


def _train_without_dropout(folder, options):
    from pointins_plugin.host import MODELS

    # children see the plugin's names because this module's imports load it
    assert "PointINS" in MODELS
    cfg = default_setup(toy_run.configure(Path(folder), **options))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trainer.train()


def test_run_without_ema_hook_is_refused(tmp_path):
    cfg = toy_run.configure(tmp_path)
    cfg.model = {"type": "ToyStudent"}
    with pytest.raises(UserError, match="'ToyStudent' is not in the models registry"):
        TRAINERS.build({"type": "DefaultTrainer", "cfg": default_setup(cfg)})


def test_full_disk_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "model_last.pth"
    save_checkpoint({"state_dict": {"x": torch.ones(1)}}, str(path))

    class Full:
        def __reduce__(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device.*intact"):
        save_checkpoint({"state_dict": {}, "y": Full()}, str(path))
    assert load_checkpoint(str(path))["state_dict"]["x"] == 1
    assert os.listdir(tmp_path) == ["model_last.pth"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_damaged_checkpoint_is_one_line(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(str(path))
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(str(tmp_path / "y.pth"))


def test_checkpoint_code_is_not_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "x": Path("/")}, path)
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(str(path))


def test_foreign_checkpoint_names_the_share(tmp_path):
    foreign = tmp_path / "foreign.pth"
    state = {"student.0.weight": torch.zeros(4, 3), "other": torch.zeros(1)}
    torch.save({"state_dict": state}, foreign)
    with pytest.raises(UserError, match=r"12\.5% of the model's keys matched"):
        run(tmp_path / "a", weight=str(foreign))
    options = {"hooks.0.allow_partial": True, "weight": str(foreign)}
    run(tmp_path / "b", **options)
    torch.save({"weights": {}}, foreign)
    with pytest.raises(UserError, match="holds no 'state_dict'"):
        run(tmp_path / "c", weight=str(foreign))
