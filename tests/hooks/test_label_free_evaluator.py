"""The label-free evaluator on a model that knows the answer, or nothing."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.hooks import label_free as module
from pointins_plugin.hooks.label_free import LabelFreeInstanceEvaluator


def batch(seed):
    """Two balls above a floor, as collated from one scene."""
    generator = torch.Generator().manual_seed(seed)
    balls = torch.randn(300, 3, generator=generator) * 0.04
    balls[:150] += torch.tensor([0.3, 0.5, 0.4])
    balls[150:] += torch.tensor([0.7, 0.5, 0.4])
    floor = torch.rand(900, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.001])
    coord = torch.cat([balls, floor])
    return {
        "coord": coord,
        "feat": coord,
        "instance": torch.tensor([0] * 150 + [1] * 150 + [-1] * 900),
        "offset": torch.tensor([1200]),
        "name": [f"scene{seed}"],
    }


class Knowing(nn.Module):
    """Predicts a share of the true offset."""

    def __init__(self, share):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.share = share
        self.modes = []

    def predict_offsets(self, data, branch):
        self.modes.append(self.training)
        assert branch == "teacher"
        coord, instance = data["coord"], data["instance"]
        shift = torch.zeros_like(coord)
        for k in (0, 1):
            shift[instance == k] = coord[instance == k].mean(0) - coord[instance == k]
        return {"coord": coord, "shift": self.share * shift, "offset": data["offset"]}


def evaluator(tmp_path, model, **options):
    hook = LabelFreeInstanceEvaluator(
        radius=0.03,
        bandwidth=0.06,
        planes={"threshold": 0.01, "min_share": 0.2},
        **options,
    )
    hook.trainer = SimpleNamespace(
        model=model,
        val_loader=[batch(0), batch(1)],
        cfg=SimpleNamespace(
            save_path=str(tmp_path), seed=3, evaluate=True, resume=False
        ),
        comm_info={},
        logger=logging.getLogger("test"),
        writer=None,
        epoch=0,
        max_epoch=2,
    )
    return hook


def test_exact_offsets_score_full_marks(tmp_path):
    model = Knowing(1.0)
    model.train()
    hook = evaluator(tmp_path, model)
    hook.before_train()
    result = hook.evaluate()
    assert result["offset_r2"] == pytest.approx(1, abs=1e-5)
    assert result["methods"]["components"]["ap50"] == 100
    assert result["methods"]["oracle"]["map"] == 100
    assert result["scenes"] == 2
    assert hook.trainer.comm_info["current_metric_value"] == 100
    written = json.loads((tmp_path / "label_free.json").read_text())
    assert written["methods"] == result["methods"]
    # evaluated in evaluation mode, left in training mode
    assert model.modes == [False, False]
    assert model.training


def test_no_offsets_are_the_geometric_baseline(tmp_path):
    hook = evaluator(tmp_path, Knowing(0.0))
    result = hook.evaluate()
    methods = result["methods"]
    assert methods["components"] == methods["plane_components"]
    assert result["offset_r2"] < 0.05


def test_ground_takes_the_place_of_planes(tmp_path):
    hook = evaluator(
        tmp_path, Knowing(1.0), ground={"height": 0.05, "cell": 0.1, "window": 0.8}
    )
    result = hook.evaluate()
    assert result["options"]["background"] == "ground"
    assert result["methods"]["components"]["ap50"] == 100
    floor = batch(0)["coord"][300:]
    side = floor[:, [0, 2, 1]] + torch.tensor([0.0, 0.5, 0.1])  # a plane, upright
    found = hook.grouping.plane(torch.cat([floor, side]).numpy())
    assert found[:900].all()
    assert found[900:].mean() < 0.1


def test_when_it_runs(tmp_path):
    hook = evaluator(tmp_path, Knowing(1.0), every=0, baselines=())
    hook.after_epoch()
    assert not (tmp_path / "label_free.json").exists()
    hook.trainer.epoch = 1
    hook.after_epoch()
    assert json.loads((tmp_path / "label_free.json").read_text())["epoch"] == 2
    assert set(hook.evaluate()["methods"]) == {"components", "modes"}


def test_nothing_is_evaluated_where_the_config_says_so(tmp_path):
    hook = evaluator(tmp_path, Knowing(1.0))
    hook.trainer.cfg.evaluate, hook.trainer.val_loader = False, None
    hook.before_train()
    hook.trainer.epoch = 1
    hook.after_epoch()
    hook.after_train()
    assert not (tmp_path / "label_free.json").exists()


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="no baseline 'dbscan'"):
        LabelFreeInstanceEvaluator(radius=1, bandwidth=1, baselines=("dbscan",))
    hook = evaluator(tmp_path, Knowing(1.0))
    hook.trainer.val_loader = None
    with pytest.raises(UserError, match=r"set data\.val in the config"):
        hook.before_train()
    unlabelled = batch(0)
    del unlabelled["instance"]
    hook.trainer.val_loader = [unlabelled]
    with pytest.raises(UserError, match="no instance labels"):
        hook.evaluate()


def test_scenes_without_a_thing_leave_a_report_that_can_be_read(tmp_path):
    hook = evaluator(tmp_path, Knowing(1.0), baselines=())
    void = batch(0)
    void["instance"] = torch.full_like(void["instance"], -1)
    hook.trainer.val_loader = [void]
    hook.evaluate()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "label_free.json").read_text()
    written = json.loads(text, parse_constant=refuse)
    assert written["offset_r2"] is None


def test_scenes_to_evaluate_are_counted_over_processes(tmp_path, monkeypatch):
    hook = evaluator(tmp_path, Knowing(1.0), baselines=(), max_scenes=1)
    assert hook.evaluate()["scenes"] == 1
    other = [{"of another process": hook._describe({**scene_of(batch(1))})}]
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(module.comm, "all_gather", lambda own: [own, *other])
    assert hook.evaluate()["scenes"] == 1


def scene_of(data):
    """A scene as it is described: with its offsets, and planes that are none."""
    coord = data["coord"].numpy()
    scene = {"coord": coord, "shift": 0 * coord, "grouped_shift": 0 * coord}
    return {
        "name": "other",
        "instance": data["instance"].numpy(),
        "plane": np.zeros(len(coord), bool),
        **scene,
    }


@pytest.mark.parametrize("evaluate", [True, False])
def test_what_would_stop_it_at_the_end_is_told_before(tmp_path, monkeypatch, evaluate):
    model = Knowing(1.0)
    model.offset_branch = None
    with_model, with_baseline = (evaluator(tmp_path, m) for m in (model, Knowing(1.0)))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for hook, message in (
        (with_model, "has no offset branch"),
        (with_baseline, r"scikit-learn: pip install"),
    ):
        hook.trainer.cfg.evaluate = evaluate
        if not evaluate:
            hook.before_train()
            continue
        with pytest.raises(UserError, match=message):
            hook.before_train()
    other = evaluator(tmp_path, Knowing(1.0), baselines=("oracle",))
    other.before_train()


def test_a_model_is_left_in_training_mode_whatever_happens(tmp_path):
    model = Knowing(1.0)
    model.train()
    hook = evaluator(tmp_path, model)
    hook.trainer.val_loader = [{**batch(0), "name": []}]
    with pytest.raises(IndexError):
        hook.evaluate()
    assert model.training
