"""The AP evaluator: exact predictions, its report, and classes that would be lost."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from pointins_plugin.errors import UserError
from pointins_plugin.hooks import InstanceAPEvaluator
from pointins_plugin.hooks.instance_ap import ignored_classes
from pointins_plugin.host import HOOKS, Config, comm, launch

NAMES = ["floor", "chair", "table"]


class Knowing(nn.Module):
    """Predicts the true instances of its batch, or the first of them only."""

    segment_ignore_index = (-1, 0)

    def __init__(self, first_only=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.first_only = first_only
        self.modes = []

    def forward(self, batch):
        self.modes.append(self.training)
        instance = batch["instance"]
        masks = instance == torch.arange(1 if self.first_only else 3)[:, None]
        return {
            "loss": torch.tensor(0.5),
            "pred_masks": masks,
            "pred_classes": torch.tensor([1, 1, 2])[: len(masks)],
            "pred_scores": torch.ones(len(masks)),
        }


def batch(name):
    instance = torch.arange(4).repeat_interleave(150)
    return {
        "coord": torch.rand(600, 3),
        "offset": torch.tensor([600]),
        "segment": torch.tensor([1, 1, 2, 0])[instance],
        # the floor has an instance too, as in ScanNet
        "instance": instance,
        "name": [name],
    }


def evaluator(tmp_path, model=None, data=None, **options):
    hook = InstanceAPEvaluator(**options)
    data = {"names": NAMES, "num_classes": 3, "ignore_index": -1, **(data or {})}
    hook.trainer = SimpleNamespace(
        model=model or Knowing(),
        val_loader=[batch("a"), batch("b")],
        cfg=Config(
            dict(
                save_path=str(tmp_path),
                seed=3,
                evaluate=True,
                resume=False,
                data=data,
            )
        ),
        comm_info={},
        logger=logging.getLogger("test"),
        writer=None,
        epoch=0,
        max_epoch=2,
    )
    return hook


def test_exact_instances_score_full_marks(tmp_path):
    hook = evaluator(tmp_path, stuff=("floor",), agnostic=True)
    hook.trainer.model.train()
    hook.before_train()
    hook.after_epoch()
    written = json.loads((tmp_path / "instance_ap.json").read_text())
    assert (written["map"], written["ap50"], written["ap25"]) == (100, 100, 100)
    assert set(written["classes"]) == {"chair", "table"}
    assert written["agnostic"]["map"] == 100
    assert written["scenes"] == 2
    assert written["loss"] == 0.5
    assert hook.trainer.comm_info["current_metric_name"] == "AP50"
    assert hook.trainer.comm_info["current_metric_value"] == 1
    # evaluated in evaluation mode, left in training mode
    assert hook.trainer.model.modes == [False, False]
    assert hook.trainer.model.training


def test_half_found(tmp_path):
    hook = evaluator(tmp_path, Knowing(first_only=True))
    result = hook.evaluate()
    assert result["classes"]["chair"]["ap50"] == pytest.approx(50, abs=1)
    assert result["classes"]["table"]["ap50"] == 0


def test_history_grows_and_resumes(tmp_path):
    hook = evaluator(tmp_path)
    for epoch in (0, 1):
        hook.trainer.epoch = epoch
        hook.evaluate()
    again = evaluator(tmp_path)
    again.trainer.cfg.resume = True
    again.before_train()
    again.trainer.epoch = 1
    again.evaluate()
    written = json.loads((tmp_path / "instance_ap.json").read_text())
    assert [entry["epoch"] for entry in written["history"]] == [1, 2]


def test_a_class_without_instances_is_null(tmp_path):
    data = {"names": [*NAMES, "sofa"], "num_classes": 4}
    evaluator(tmp_path, data=data).evaluate()
    written = json.loads((tmp_path / "instance_ap.json").read_text())
    assert written["classes"]["sofa"]["map"] is None
    assert written["map"] == 100


def test_when_it_runs(tmp_path):
    hook = evaluator(tmp_path, every=0)
    hook.after_epoch()
    assert not list(tmp_path.iterdir())
    hook.trainer.cfg.evaluate = False
    hook.trainer.epoch = 1
    hook.after_epoch()
    assert not list(tmp_path.iterdir())
    hook.trainer.cfg.evaluate = True
    hook.after_epoch()
    assert (tmp_path / "instance_ap.json").is_file()


def test_who_ignores_what():
    assert ignored_classes(NAMES, ["floor"], None, None, (-1, 0)) == (0,)
    assert ignored_classes(NAMES, None, None, (-1, 0), None) == (0,)
    assert ignored_classes(NAMES, None, None, None, (-1, 0, 2)) == (0, 2)
    assert ignored_classes(NAMES, ["floor"], ["chair"], None, (-1, 0)) == (0, 2)


def test_a_thing_that_is_ignored(tmp_path):
    hook = evaluator(tmp_path, stuff=("floor",))
    hook.trainer.model.segment_ignore_index = (-1, 0, 2)
    with pytest.raises(UserError, match="the model ignores 'table', which has inst"):
        hook.before_train()
    hook = evaluator(tmp_path, data={"things": ["chair", "floor"]})
    with pytest.raises(UserError, match="'floor' is among things but the model"):
        hook.before_train()
    hook = evaluator(tmp_path, things=("chair",), stuff=("floor",))
    hook.before_train()
    with pytest.raises(UserError, match="scene a has instances of 'table', which is"):
        hook.evaluate()
    hook = evaluator(tmp_path, stuff=("flor",))
    with pytest.raises(UserError, match="stuff names 'flor', which is not in"):
        hook.before_train()


def test_refusals(tmp_path):
    hook = evaluator(tmp_path)
    hook.trainer.val_loader = None
    with pytest.raises(UserError, match="no validation data"):
        hook.before_train()
    nameless = batch("a")
    del nameless["name"]
    hook.trainer.val_loader = [nameless]
    with pytest.raises(UserError, match="no 'name'; add it to the keys"):
        hook.evaluate()
    with pytest.raises(UserError, match="every=-1"):
        InstanceAPEvaluator(every=-1)


def test_pointcepts_name():
    hook = HOOKS.build(dict(type="InsSegEvaluator", segment_ignore_index=(-1, 0)))
    assert hook.segment_ignore_index == (-1, 0)


def _losses(folder):
    """Score three scenes, of which every process's have another loss."""
    rank, size = comm.get_rank(), comm.get_world_size()
    hook = evaluator(folder, stuff=("floor",), filename=f"{size}.json")
    scenes = [batch(name) for name in "012"]
    mine = [place % 3 for place in range(rank, 4 if size > 1 else 3, size)]
    hook.trainer.val_loader = DataLoader(scenes, batch_size=None, sampler=mine)
    model = hook.trainer.model
    model.forward = lambda batch: {
        **Knowing.forward(model, batch),
        "loss": torch.tensor(4.0 ** int(batch["name"][0])),
    }
    hook.evaluate()


def test_the_loss_is_that_of_all_processes(tmp_path):
    for processes in (1, 2):
        launch(_losses, processes, cfg=(str(tmp_path),))
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2))
    assert one == two
    assert one["loss"] == 7.0
