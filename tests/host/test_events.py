"""Scalars: means, and the file they are written to."""

import json
import math
import sys
import types

from pointins_plugin.host.standalone.events import EventStorage, MetricsWriter


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_histories_weigh_samples():
    storage = EventStorage()
    storage.put_scalar("loss", 1.0)
    storage.put_scalar("loss", 4.0, n=3)
    history = storage.history("loss")
    assert (history.latest, history.val, history.avg, history.count) == (4, 4, 3.25, 4)
    storage.reset_histories()
    assert math.isnan(storage.history("loss").avg)


def test_fresh_run_replaces_and_resumed_run_appends(tmp_path):
    for step, resume in ((1, False), (2, False), (3, True)):
        writer = MetricsWriter(str(tmp_path), resume=resume, tensorboard=False)
        writer.add_scalar("loss", 0.5, step)
        writer.close()
    assert [line["step"] for line in lines(tmp_path)] == [2, 3]


def test_line_cut_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "tag": "a", "value": 1.0}\n{"step": 2, "ta')
    writer = MetricsWriter(str(tmp_path), resume=True, tensorboard=False)
    writer.add_scalar("a", float("nan"), 2)
    writer.close()
    assert lines(tmp_path) == [
        {"step": 1, "tag": "a", "value": 1.0},
        {"step": 2, "tag": "a", "value": None},
    ]


def test_wandb_run_sees_every_value_on_its_axis(tmp_path):
    class Run:
        def __init__(self):
            self.logged = []
            self.finished = False

        def log(self, values):
            self.logged.append(values)

        def finish(self):
            self.finished = True

    run = Run()
    writer = MetricsWriter(str(tmp_path), tensorboard=False, wandb_run=run)
    writer.add_scalar("train_batch/loss", 2.0, 7)
    writer.add_scalar("train/loss", 3.0, 1)
    writer.close()
    assert run.logged == [
        {"Iter": 7, "train_batch/loss": 2.0},
        {"Epoch": 1, "train/loss": 3.0},
    ]
    assert run.finished


def test_tensorboard_sees_every_value_where_it_is_installed(tmp_path, monkeypatch):
    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder
            self.values = []
            self.closed = False

        def add_scalar(self, tag, value, step):
            self.values.append((tag, value, step))

        def close(self):
            self.closed = True

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    writer = MetricsWriter(str(tmp_path))
    board = writer._board
    writer.add_scalar("train/loss", 3.0, 1)
    writer.close()
    assert writer.has_tensorboard
    assert board.folder == str(tmp_path)
    assert board.values == [("train/loss", 3.0, 1)]
    assert board.closed
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    writer = MetricsWriter(str(tmp_path))
    writer.add_scalar("train/loss", 3.0, 1)
    writer.close()
    assert not writer.has_tensorboard
    assert len(lines(tmp_path)) == 1
