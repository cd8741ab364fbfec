"""The trainer: determinism, accumulation, resuming, several processes."""

import itertools
import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import toy_run

from pointins_plugin import cli
from pointins_plugin.errors import BatchError, UserError
from pointins_plugin.host import (
    TRAINERS,
    Config,
    HookBase,
    comm,
    default_config_parser,
    default_setup,
    launch,
)
from pointins_plugin.host.standalone import hooks, signals
from pointins_plugin.host.standalone.checkpoint import load_checkpoint
from pointins_plugin.host.standalone.sampling import EpochSampler, SeededLoader


def run(folder, **options):
    cfg = default_setup(toy_run.configure(folder, **options))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    trainer.train()
    return trainer


def metric(folder, tag):
    """Return the values of one scalar by step; of several at a step the last counts."""
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    values = {}
    for line in map(json.loads, lines):
        if line["tag"] == tag:
            values[line["step"]] = line["value"]
    return values


def losses(folder):
    return metric(folder, "train_batch/loss")


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


class StopAt(HookBase):
    """Interrupts before an epoch, as Ctrl-C does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def before_epoch(self):
        if self.trainer.epoch == self.epoch:
            raise KeyboardInterrupt


def interrupted(folder, epoch=2, **options):
    """Run until an epoch begins; return the path of the checkpoint."""
    cfg = default_setup(toy_run.configure(folder, **options))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    stop = StopAt(epoch)
    stop.trainer = trainer
    trainer.hooks.append(stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    return folder / "run" / "model" / "model_last.pth"


class StopAfter(HookBase):
    """Interrupts after some batches, as Ctrl-C does."""

    def __init__(self, steps):
        self.steps = steps

    def after_step(self):
        self.steps -= 1
        if self.steps == 0:
            raise KeyboardInterrupt


def saves(folder):
    """Return (epoch, step) of what was saved within epochs."""
    text = (folder / "run" / "train.log").read_text()
    found = re.findall(r"in epoch (\d+) after step (\d+)", text)
    return [(int(epoch), int(step)) for epoch, step in found]


def ticking_clock(seconds):
    """Return a clock that goes on at every look: before training, steps, saves."""
    ticks = itertools.count(0, seconds)
    return SimpleNamespace(monotonic=lambda: next(ticks), perf_counter=time.time)


# Of eight steps each third, by a clock of four minutes a look; the last step of an
# epoch is saved after it.
EACH_THIRD = [(epoch, step) for epoch in (1, 2, 3, 4) for step in (3, 6)]


def test_a_save_is_due_ten_minutes_after_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "time", ticking_clock(240))
    run(tmp_path, batch_size=2)
    assert saves(tmp_path) == EACH_THIRD
    monkeypatch.undo()
    run(tmp_path, batch_size=2)
    assert saves(tmp_path) == []


def clock_of_rank(folder):
    """Train on two ranks, whose clocks differ."""
    hooks.time = ticking_clock((240, 0)[comm.get_rank()])
    run(folder, batch_size=2)


def test_ranks_save_together_by_the_clock_of_the_first(tmp_path):
    launch(clock_of_rank, 2, cfg=(tmp_path,))
    assert saves(tmp_path) == EACH_THIRD


@pytest.fixture
def obeyed_sigint():
    """SIGINT as at a terminal; where tests run in the background, it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Signals(HookBase):
    """Sends this process a signal at the nth occurrence of an event."""

    def __init__(self, event, occurrence, number):
        self.left = occurrence
        self.number = number
        setattr(self, event, self.count)

    def count(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


SAVER = "hooks.6.save_every_steps"
MINUTES = "hooks.6.save_every_minutes"


@pytest.mark.parametrize(
    "options",
    [
        {SAVER: 1},
        {SAVER: 1, "gradient_accumulation_steps": 3},
        {SAVER: 1, "batch_size": 3, "num_worker": 1},
        {MINUTES: 1e-9},
    ],
    ids=str,
)
def test_resumed_within_an_epoch_equals_uninterrupted(tmp_path, options):
    whole = run(tmp_path / "a", **options)
    cfg = default_setup(toy_run.configure(tmp_path / "b", **options))
    assert cfg.hooks[6].type == "CheckpointSaver"
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    stop = StopAfter(len(trainer.train_loader) + 3)
    stop.trainer = trainer
    trainer.hooks.append(stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    last = tmp_path / "b" / "run" / "model" / "model_last.pth"
    checkpoint = load_checkpoint(str(last))
    assert checkpoint["epoch"] == 1
    assert checkpoint["pointins"]["iteration"] == 3
    resumed = run(tmp_path / "b", resume=True, weight=str(last), **options)
    assert (resumed.start_epoch, resumed.start_iter) == (1, 3)
    assert_same_weights(whole.model.state_dict(), resumed.model.state_dict())
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    # the means of the epoch cover its first steps too
    means = [metric(tmp_path / name, "train/loss") for name in "ab"]
    assert means[0] == pytest.approx(means[1])


@pytest.mark.parametrize(
    ("number", "event", "occurrence", "place"),
    [
        (signal.SIGTERM, "before_step", 6, (1, 2)),
        (signal.SIGUSR1, "before_step", 6, (1, 2)),
        (signal.SIGINT, "before_step", 6, (1, 2)),
        # saved before the evaluation that follows, which may take longer than is left
        (signal.SIGTERM, "before_step", 8, (1, 4)),
        (signal.SIGTERM, "after_epoch", 2, (2, 0)),
        (signal.SIGTERM, "after_epoch", 4, (4, 0)),
    ],
)
def test_signal_finishes_the_step_and_saves(
    tmp_path, obeyed_sigint, number, event, occurrence, place
):
    whole = run(tmp_path / "a")
    cfg = default_setup(toy_run.configure(tmp_path / "b"))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    trainer.hooks.insert(0, Signals(event, occurrence, number))
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as error:
        trainer.train()
    assert error.value.code == 128 + number
    assert signal.getsignal(number) == before
    last = tmp_path / "b" / "run" / "model" / "model_last.pth"
    checkpoint = load_checkpoint(str(last))
    assert (checkpoint["epoch"], checkpoint["pointins"]["iteration"]) == place
    resumed = run(tmp_path / "b", resume=True, weight=str(last))
    assert_same_weights(whole.model.state_dict(), resumed.model.state_dict())
    for tag in ("train_batch/loss", "train/loss"):
        assert metric(tmp_path / "a", tag) == metric(tmp_path / "b", tag)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_whole_group_finishes_the_step_and_saves(
    tmp_path, obeyed_sigint, number
):
    """As `timeout`, clusters and terminals send it: to the loader's workers too."""
    last = tmp_path / "run" / "model" / "model_last.pth"
    command = [sys.executable, toy_run.__file__, str(tmp_path)]
    command += ["num_worker=2", "model.pause=0.2", "epoch=40", "eval_epoch=40"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)  # into the next epoch
    os.killpg(process.pid, number)
    assert process.wait(60) == 128 + number
    checkpoint = load_checkpoint(str(last))
    assert checkpoint["pointins"]["iteration"] > 0


def test_a_second_ctrl_c_stops_at_once(tmp_path, obeyed_sigint, monkeypatch):
    """What was saved last stays, and the run goes on from there."""
    now = iter((10.0, 10.9, 11.0))  # a terminal's and a launcher's are one press
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr(signals, "time", clock)
    cfg = default_setup(toy_run.configure(tmp_path))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    step = len(trainer.train_loader) + 2
    hooks = [Signals("before_step", step, signal.SIGINT) for _ in range(3)]
    trainer.hooks[:0] = hooks
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert [hook.left for hook in hooks] == [0, 0, 0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    last = tmp_path / "run" / "model" / "model_last.pth"
    checkpoint = load_checkpoint(str(last))
    assert (checkpoint["epoch"], checkpoint["pointins"]["iteration"]) == (1, 0)


def test_the_first_ctrl_c_is_told_once(obeyed_sigint, capfd):
    with signals.StopSignals(notice="stopping") as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
    assert stop.number == signal.SIGINT
    assert capfd.readouterr().err == "\npointins: stopping\n"


def test_an_ignored_sigint_stays_ignored(obeyed_sigint):
    """As in the background of a script, which Ctrl-C is not meant for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals.StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
    assert stop.number is None


def test_workers_end_by_their_parent_alone():
    loader = SeededLoader(
        toy_run.ToyDataset(size=64),
        list,
        seed=1,
        sampler=EpochSampler(64, seed=1, shuffle=False),
        num_workers=1,
        prefetch_factor=2,
        batch_size=1,
    )
    # a run of another test that was stopped may not have been collected yet
    others = {child.pid for child in multiprocessing.active_children()}

    def own() -> multiprocessing.Process:
        children = multiprocessing.active_children()
        (worker,) = (child for child in children if child.pid not in others)
        return worker

    batches = iter(loader)
    next(batches)
    worker = own()
    for name in ("TERM", "USR1"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    assert sum(1 for _ in batches) == 63
    batches = iter(loader)
    next(batches)
    worker = own()
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


def test_signal_ends_a_run_that_saves_nothing(tmp_path):
    cfg = default_setup(toy_run.configure(tmp_path, hooks=[]))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    trainer.hooks = [Signals("before_step", 6, signal.SIGTERM)]
    with pytest.raises(SystemExit):
        trainer.train()
    assert trainer.epoch == 1


def test_signal_to_one_process_of_two_stops_both(tmp_path):
    """Both finish the same step; the launcher ends with the signal's exit code."""
    with pytest.raises(SystemExit) as error:
        launch(_second_rank_is_signalled, 2, cfg=(str(tmp_path),))
    assert error.value.code == 128 + signal.SIGUSR1
    last = tmp_path / "run" / "model" / "model_last.pth"
    checkpoint = load_checkpoint(str(last))
    assert (checkpoint["epoch"], checkpoint["pointins"]["iteration"]) == (1, 2)


def _second_rank_is_signalled(folder, options=None):
    cfg = default_setup(toy_run.configure(Path(folder), **options or {}))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    without_dropout(trainer)
    if comm.get_rank() == 1:
        trainer.hooks.insert(0, Signals("before_step", 6, signal.SIGUSR1))
    trainer.train()


OF_A_USER = """
from pathlib import Path
from pointins_plugin.host import HOOKS, TESTERS, HookBase, comm

@HOOKS.register_module()
class UsersHook(HookBase):
    def before_train(self):
        Path(self.trainer.cfg.save_path, f"trains {comm.get_rank()}").touch()

@TESTERS.register_module()
class UsersTester:
    def __init__(self, cfg):
        self.cfg = cfg

    def test(self):
        Path(self.cfg.save_path, f"tests {comm.get_rank()}").touch()
"""


def test_processes_import_what_the_config_names(tmp_path, monkeypatch):
    """The toy model too: nothing else brings it to a spawned process."""
    (tmp_path / "hooks_of_a_user.py").write_text(OF_A_USER)
    monkeypatch.syspath_prepend(tmp_path)
    options = {
        "custom_imports.imports": ["toy_run", "hooks_of_a_user"],
        "hooks": [{"type": "UsersHook"}],
    }
    cfg = toy_run.configure(tmp_path, epoch=1, eval_epoch=1, **options)
    cfg.test = {"type": "UsersTester"}
    for worker in (cli.main_worker, cli.test_worker):
        launch(worker, 2, cfg=(cfg,))
    for name in ("trains 0", "trains 1", "tests 0", "tests 1"):
        assert (tmp_path / "run" / name).exists(), name


def test_ranks_that_read_the_config_by_themselves_share_a_seed(tmp_path):
    """As under torchrun and on several machines; config.py has it too."""
    launch(_draws_a_seed, 2, cfg=(str(tmp_path),))
    zero, one = ((tmp_path / f"seed {rank}").read_text() for rank in (0, 1))
    assert zero == one
    written = Config.fromfile(tmp_path / "run" / "config.py")
    assert str(written.seed) == zero


def _draws_a_seed(folder):
    cfg = default_setup(toy_run.configure(Path(folder), seed=None))
    Path(folder, f"seed {comm.get_rank()}").write_text(str(cfg.seed))


def scheduler(kind, **options):
    return {"scheduler": {"_delete_": True, "type": kind, **options}}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": {"_delete_": True, "type": "SGD", "lr": 0.1, "momentum": 0.9}},
        {"optimizer": {"_delete_": True, "type": "Muon_KIMI", "lr": 0.1}},
        {"enable_amp": True},
        # 4 batches an epoch: two micro-batches are left over when the run stops
        {"gradient_accumulation_steps": 3},
        scheduler("PolyLR"),
        scheduler("ExpLR"),
        scheduler("CosineAnnealingLR"),
        scheduler("MultiStepLR", milestones=[0.4, 0.8]),
        scheduler("MultiStepWithWarmupLR", milestones=[0.4, 0.8]),
    ],
    ids=lambda options: str(options)[:50],
)
def test_resumed_equals_uninterrupted(tmp_path, options):
    whole = run(tmp_path / "a", **options)
    last = interrupted(tmp_path / "b", **options)
    resumed = run(tmp_path / "b", resume=True, weight=str(last), **options)
    assert resumed.start_epoch == 2
    assert_same_weights(whole.model.state_dict(), resumed.model.state_dict())
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_a_run_that_begins_anew_removes_what_an_earlier_one_kept(tmp_path):
    """The user's own files stay; a run that resumes removes nothing."""
    folder = tmp_path / "run" / "model"
    first = run(tmp_path, **{"hooks.CheckpointSaver.save_freq": 1})
    best = folder / "model_best.pth"
    torch.save({"state_dict": first.model.state_dict(), "epoch": 3}, best)
    mine = folder / "epoch_of_mine.pth"
    mine.touch()
    last = folder / "model_last.pth"
    run(tmp_path, resume=True, weight=str(last))
    kept = ["model_best.pth", *(f"epoch_{epoch}.pth" for epoch in (1, 2, 3, 4))]
    assert {path.name for path in folder.iterdir()} == {*kept, last.name, mine.name}
    cfg = default_setup(toy_run.configure(tmp_path, weight=str(best)))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    trainer.call_hooks("before_train")
    assert {path.name for path in folder.iterdir()} == {best.name, last.name, mine.name}
    run(tmp_path, weight=str(best))  # its own is saved now
    assert {path.name for path in folder.iterdir()} == {last.name, mine.name}


def test_resume_finds_the_last_checkpoint_of_its_folder(tmp_path):
    interrupted(tmp_path, epoch=3)
    assert run(tmp_path, resume=True).start_epoch == 3
    # nothing is left to do
    assert run(tmp_path, resume=True).start_epoch == 4
    with pytest.raises(UserError, match=r"model_last\.pth does not exist"):
        run(tmp_path / "new", resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.wider": True}, r"first without a match: student\.0\.weight"),
        ({"epoch": 8, "eval_epoch": 8}, r"had 16 optimizer steps.*give 32"),
        (
            {"param_dicts": [{"keyword": "student.0", "lr": 0.1}]},
            "cannot be resumed with this config",
        ),
    ],
)
def test_resume_needs_the_same_run(tmp_path, options, message):
    interrupted(tmp_path)
    with pytest.raises(UserError, match=message):
        run(tmp_path, resume=True, **options)


def test_changed_config_is_logged_and_a_moved_run_is_not_changed(tmp_path):
    interrupted(tmp_path)
    log = tmp_path / "run" / "train.log"
    warning = "The config is not the one this run was started with"
    run(tmp_path, resume=True, num_worker=1)
    assert warning not in log.read_text()
    interrupted(tmp_path)
    run(tmp_path, resume=True, clip_grad=0.5)
    assert warning in log.read_text()


def test_a_run_that_has_ended_does_not_warn_of_another_config(tmp_path):
    whole = run(tmp_path)
    log = tmp_path / "run" / "train.log"
    before = len(log.read_text())
    again = run(tmp_path, resume=True, clip_grad=0.5)
    said = log.read_text()[before:]
    assert "All 4 epochs are done" in said
    assert "is not the one this run was started with" not in said
    assert_same_weights(whole.model.state_dict(), again.model.state_dict())


def test_older_checkpoint_without_our_entry_resumes(tmp_path):
    whole = run(tmp_path / "a")
    last = interrupted(tmp_path / "b")
    checkpoint = torch.load(last, weights_only=True)
    assert set(checkpoint) == {
        "epoch",
        "state_dict",
        "optimizer",
        "scheduler",
        "scaler",
        "best_metric_value",
        "pointins",
    }
    del checkpoint["pointins"]
    torch.save(checkpoint, last)
    resumed = run(tmp_path / "b", resume=True)
    assert_same_weights(whole.model.state_dict(), resumed.model.state_dict())


def test_weight_decay_follows_optimizer_steps(tmp_path):
    run(tmp_path, gradient_accumulation_steps=4, epoch=8, eval_epoch=8)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    values = [line["value"] for line in lines if line["tag"] == "params/wd"]
    # 32 micro-batches, 8 steps: four micro-batches share a value, cosine from .04
    assert len(values) == 32
    cosine = [0.2 - 0.08 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert values[::4] == values[3::4] == pytest.approx(cosine)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_scene_is_one_line_in_console_and_log(tmp_path, workers):
    with pytest.raises(UserError) as caught:
        run(tmp_path, num_worker=workers, **{"data.train.bad": 3})
    assert str(caught.value) == "scene 3 has no points"
    log = (tmp_path / "run" / "train.log").read_text()
    assert "ERROR] scene 3 has no points\n" in log
    assert "Traceback" not in log


def test_scenes_of_a_batch_that_cannot_be_used_are_named(tmp_path):
    cfg = default_setup(toy_run.configure(tmp_path))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    names = []

    def forward(batch):
        names.extend(batch["name"])
        raise BatchError("a grid is too large: crop the clouds")

    trainer.model.forward = forward
    with pytest.raises(UserError, match="crop the clouds") as caught:
        trainer.train()
    assert len(names) == cfg.batch_size
    assert str(caught.value).endswith(f"(scenes of this step: {', '.join(names)})")


def test_half_precision_of_a_gpu_becomes_bfloat16_on_cpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    trainer = run(tmp_path / "a", enable_amp=True, amp_dtype="float16")
    assert trainer.amp_dtype == torch.bfloat16
    assert trainer.autocast().fast_dtype == torch.bfloat16
    assert losses(tmp_path / "a") != losses_of(run(tmp_path / "b"))
    with pytest.raises(UserError, match="amp_dtype='float8'"):
        run(tmp_path / "c", amp_dtype="float8")


def test_mixed_precision_skips_what_is_not_finite(tmp_path):
    """Weights and schedule stay; the scale, which the checkpoint holds, is halved."""

    class Spoil(HookBase):
        def before_step(self):
            if self.trainer.comm_info["iter"] == 1:
                self.before = self.trainer.model.student[0].weight.clone()
                self.trainer.comm_info["input_dict"]["x"][0] = float("inf")

        def after_step(self):
            if self.trainer.comm_info["iter"] == 1:
                after = self.trainer.model.student[0].weight
                assert torch.equal(self.before, after)

    cfg = default_setup(toy_run.configure(tmp_path, enable_amp=True))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    spoil = Spoil()
    spoil.trainer = trainer
    trainer.hooks.append(spoil)
    trainer.train()
    assert trainer.scheduler.last_epoch == 12
    last = tmp_path / "run" / "model" / "model_last.pth"
    assert load_checkpoint(str(last))["scaler"]["scale"] == 2.0**16 / 2**4


class BrokenSteps(HookBase):
    """Break the input, or the weights alone, of a rank's steps from one on."""

    def __init__(self, start, rank=0, weights=False):
        self.start = start
        self.rank = rank
        self.weights = weights

    def before_step(self):
        trainer = self.trainer
        step = trainer.epoch * len(trainer.train_loader) + trainer.comm_info["iter"] + 1
        if step < self.start or comm.get_rank() != self.rank:
            return
        if self.weights:
            # the loss is finite, its gradient is not
            weight = trainer.model.student[0].weight
            weight.register_hook(lambda grad: grad * float("nan"))
        else:
            trainer.comm_info["input_dict"]["x"][0] = float("nan")


def spoiled(folder, start, rank=0, weights=False, **options):
    cfg = default_setup(toy_run.configure(folder, **options))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    hook = BrokenSteps(start, rank, weights)
    hook.trainer = trainer
    trainer.hooks.insert(0, hook)
    trainer.train()


def spoiled_worker(folder, start):
    """Train on two ranks; write what the run of each ended with."""
    with pytest.raises(UserError) as caught:
        spoiled(folder, start, rank=1)
    (folder / f"rank{comm.get_rank()}").write_text(str(caught.value))


def assert_last_is_finite(folder, epoch):
    last = load_checkpoint(str(folder / "run" / "model" / "model_last.pth"))
    assert last["epoch"] == epoch
    assert all(value.isfinite().all() for value in last["state_dict"].values())


@pytest.mark.parametrize(
    ("options", "step", "epoch"),
    [({}, 6, 1), ({"enable_amp": True, "epoch": 8, "eval_epoch": 8}, 25, 6)],
    ids=["float32", "mixed"],
)
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, options, step, epoch):
    """Before such weights are saved; with a loss scaler after 20 steps left out."""
    with pytest.raises(UserError, match=rf"loss of step {step} is nan: .*model_last"):
        spoiled(tmp_path, start=6, **options)
    assert_last_is_finite(tmp_path, epoch)


@pytest.mark.parametrize("weights", [False, True], ids=["loss", "gradient"])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, weights):
    """In the last step of an epoch nothing stops the run before it would save."""
    with pytest.raises(UserError, match=r"step 4 of epoch 2 weights are not finite"):
        spoiled(tmp_path, start=8, weights=weights)
    assert_last_is_finite(tmp_path, epoch=1)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (6, "the loss of (another rank|step 6) is "),
        (8, "step 4 of epoch 2 weights are not finite"),
    ],
)
def test_ranks_end_together_where_one_has_a_broken_loss(tmp_path, start, message):
    launch(spoiled_worker, 2, cfg=(tmp_path, start))
    found = [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)]
    assert all(re.search(message, text) for text in found)
    assert_last_is_finite(tmp_path, epoch=1)


def losses_of(trainer):
    return losses(Path(trainer.cfg.save_path).parent)


def test_batch_that_processes_cannot_share_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "all_gather", lambda value: [value])
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for key, value in (("batch_size", 1), ("batch_size_val", 3)):
        cfg = toy_run.configure(tmp_path, **{key: value})
        message = f"{key}={value} is shared by 2 processes.*set {key}={value + 1},"
        with pytest.raises(UserError, match=message):
            default_setup(cfg)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"batch_size": 0}, "batch_size=0 is no positive integer"),
        ({"clip_grad": -1.0}, r"clip_grad=-1\.0 is neither None nor a number above 0"),
        ({"clip_grad": "much"}, "clip_grad='much' is neither None nor a number"),
        ({"epoch": 3, "eval_epoch": 2}, "not a multiple of eval_epoch"),
        ({"evaluate": True}, r"needs data\.val"),
        ({"data.train.size": 0}, r"data\.train has no sample"),
        ({"hooks.0.strict": True, "weight": "none.pth"}, "none.pth does not exist"),
        ({SAVER: 0}, "save_every_steps=0 is no positive integer"),
        ({MINUTES: 0}, "save_every_minutes=0 is no positive number"),
    ],
)
def test_config_that_makes_no_sense_is_one_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, **options)


def test_missing_keys_are_named(tmp_path):
    path = tmp_path / "short.py"
    path.write_text(f"save_path = {str(tmp_path)!r}\nmodel = {{}}\ndata = {{}}\n")
    with pytest.raises(UserError, match=r"it has no optimizer.*default_runtime"):
        default_config_parser(str(path), {})


def test_model_that_takes_no_events_is_left_alone(tmp_path):
    cfg = default_setup(toy_run.configure(tmp_path))
    cfg.hooks = [{"type": "ModelHook"}]
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    trainer.model = torch.nn.Linear(1, 1)
    trainer.call_hooks("before_train")
    assert not hasattr(trainer.model, "trainer")


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
    """Ranks share the batch; gradients and, if asked, statistics are those of all."""
    options = {"batch_size": 16, "epoch": 2, "eval_epoch": 2}
    options |= {"model.norm": True, "sync_bn": True}
    # plain descent: AdamW would enlarge the rounding of gradients that BatchNorm
    # makes zero
    descent = {"_delete_": True, "type": "SGD", "lr": 0.01, "momentum": 0.9}
    options["optimizer"] = descent
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


def test_statistics_of_every_process_are_resumed(tmp_path):
    """Each has its own where they are not shared; weights are the first's."""
    options = {"model.norm": True, "epoch": 2, "eval_epoch": 2}
    launch(_train_without_dropout, 2, cfg=(str(tmp_path / "a"), options))
    with pytest.raises(SystemExit):
        launch(_second_rank_is_signalled, 2, cfg=(str(tmp_path / "b"), options))
    last = tmp_path / "b" / "run" / "model" / "model_last.pth"
    assert load_checkpoint(str(last))["pointins"]["iteration"] == 2
    more = {**options, "resume": True, "weight": str(last)}
    launch(_train_without_dropout, 2, cfg=(str(tmp_path / "b"), more))
    whole, resumed = (
        load_checkpoint(str(tmp_path / name / "run" / "model" / "model_last.pth"))
        for name in "ab"
    )
    assert_same_weights(whole["state_dict"], resumed["state_dict"])
    ranks, again = (state["pointins"]["ranks"] for state in (whole, resumed))
    for rank in range(2):
        assert_same_weights(ranks[rank], again[rank])
    name = "module.student.3.running_mean"
    torch.testing.assert_close(ranks[0][name], whole["state_dict"][name])
    assert not torch.equal(ranks[0][name], ranks[1][name])


@pytest.mark.parametrize(("size", "batches"), [(63, 15), (64, 16), (3, 1), (4, 1)])
def test_an_epoch_has_the_same_batches_on_any_number_of_processes(size, batches):
    def epoch(world_size):
        multiple = 4 if size > 4 else 1
        share = 4 // world_size
        ranks = [
            [
                index
                for _, index in EpochSampler(
                    size, 1, True, rank, world_size, multiple=multiple
                )
            ]
            for rank in range(world_size)
        ]
        assert {len(rank) for rank in ranks} == {
            len(EpochSampler(size, 1, True, 0, world_size, multiple=multiple))
        }
        steps = -(-len(ranks[0]) // share)
        return [
            {i for rank in ranks for i in rank[step * share : (step + 1) * share]}
            for step in range(steps)
        ]

    assert len(epoch(1)) == batches
    assert epoch(1) == epoch(2) == epoch(4)


def test_scenes_beyond_whole_batches_add_no_step_on_two_processes(tmp_path):
    options = {"data.train.size": 15, "epoch": 1, "eval_epoch": 1}
    for world in (1, 2):
        folder = tmp_path / str(world)
        launch(_train_without_dropout, world, cfg=(str(folder), options))
        last = load_checkpoint(str(folder / "run" / "model" / "model_last.pth"))
        assert last["pointins"]["total_steps"] == 3


def _train_without_dropout(folder, options):
    from pointins_plugin.host import MODELS

    # children see the plugin's names because this module's imports load it
    assert "PointINS" in MODELS
    cfg = default_setup(toy_run.configure(Path(folder), **options))
    trainer = TRAINERS.build({"type": "DefaultTrainer", "cfg": cfg})
    without_dropout(trainer)
    trainer.train()


def without_dropout(trainer):
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def test_run_without_ema_hook_is_refused(tmp_path):
    cfg = toy_run.configure(tmp_path)
    cfg.model = {"type": "ToyStudent"}
    with pytest.raises(UserError, match="'ToyStudent' is not in the models registry"):
        TRAINERS.build({"type": "DefaultTrainer", "cfg": default_setup(cfg)})


def test_foreign_checkpoint_names_the_share(tmp_path):
    foreign = tmp_path / "foreign.pth"
    state = {"student.0.weight": torch.zeros(4, 3), "other": torch.zeros(1)}
    torch.save({"state_dict": state}, foreign)
    # one key of eight, and its copy in the teacher
    with pytest.raises(UserError, match=r"25\.0% of the model's keys matched"):
        run(tmp_path / "a", weight=str(foreign))
    options = {"hooks.0.allow_partial": True, "weight": str(foreign)}
    run(tmp_path / "b", **options)
    torch.save({"weights": {}}, foreign)
    with pytest.raises(UserError, match="holds no 'state_dict'"):
        run(tmp_path / "c", weight=str(foreign))
