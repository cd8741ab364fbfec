"""Monitors: figures by hand and the complaints they lead to."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.hooks.monitors import (
    CollapseMonitor,
    offset_distribution,
    offset_r2,
    usage_entropy,
)
from pointins_plugin.host import HOOKS
from pointins_plugin.models.objectives import Match
from pointins_plugin.priors import PriorBuffer, build_prior


@pytest.fixture
def prior():
    return PriorBuffer(build_prior({"type": "log_normal", "median": 0.5, "sigma": 0.5}))


def sphere(n=20000, seed=0):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def test_offsets_on_the_prior_look_healthy(prior):
    length = prior.quantile(
        torch.rand(20000, generator=torch.Generator().manual_seed(1))
    )
    figures = offset_distribution(sphere() * length[:, None], prior)
    for name in ("length_q10", "length_q50", "length_q90"):
        assert figures[name] == pytest.approx(1, abs=0.05)
    assert figures["resultant"] < 0.03
    assert figures["eigen_min"] == pytest.approx(1 / 3, abs=0.02)
    assert figures["eigen_max"] == pytest.approx(1 / 3, abs=0.02)


def test_a_constant_field_is_told(prior):
    figures = offset_distribution(torch.tensor([[0.5, 0, 0]]).expand(100, 3), prior)
    assert figures["resultant"] == pytest.approx(1)
    assert figures["eigen_max"] == pytest.approx(1)
    complaints = CollapseMonitor.complaints({**figures, "usage_entropy": 0.9})
    assert any("point one way" in line for line in complaints)


def test_usage_entropy():
    assert usage_entropy(torch.eye(4)) == pytest.approx(1)
    assert usage_entropy(torch.eye(4)[[0, 0, 0]]) == pytest.approx(0)
    half = usage_entropy(torch.eye(4)[[0, 1]])
    assert half == pytest.approx(math.log(2) / math.log(4))


def test_what_is_no_prototype_has_no_usage():
    """An objective without prototypes: the figures of features, and no complaint."""
    match = Match(torch.arange(2), torch.arange(2), torch.zeros(2, dtype=torch.long))
    state = dict(
        student_feature=torch.eye(2), teacher_feature=torch.eye(2), same_view=match
    )
    figures = CollapseMonitor.measure(state)
    assert figures == {"student_teacher": pytest.approx(0, abs=1e-6)}
    assert CollapseMonitor.complaints(figures) == []
    state["teacher_outputs"] = torch.eye(2)
    assert CollapseMonitor.measure(state)["usage_entropy"] == pytest.approx(1)


def test_r2_by_hand():
    truth = torch.tensor([[0.0, 0, 0], [2, 0, 0], [9, 9, 9]])
    mask = torch.tensor([True, True, False])
    assert offset_r2(truth, truth, mask) == 1
    mean = torch.tensor([1.0, 0, 0]).expand(3, 3)
    assert offset_r2(mean, truth, mask) == pytest.approx(0)
    assert offset_r2(-truth, truth, mask) == pytest.approx(1 - 16 / 2)
    assert math.isnan(offset_r2(truth, truth, torch.zeros(3, dtype=torch.bool)))


def test_collapse_is_complained_of():
    lines = CollapseMonitor.complaints(
        {"usage_entropy": 0.1, "length_q50": 0.01, "target_share": 0.0}
    )
    assert len(lines) == 3
    assert CollapseMonitor.complaints({"usage_entropy": 0.9, "target_share": 0.5}) == []


@pytest.mark.parametrize("count", [0, -1])
def test_counts_of_steps_are_checked(count):
    with pytest.raises(UserError, match=f"every={count}; give 1 or more steps"):
        CollapseMonitor(every=count)
    writer = {"type": "InformationWriter", "log_interval": count}
    with pytest.raises(UserError, match=f"log_interval={count}; give 1 or more"):
        HOOKS.build(writer)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
def test_a_model_that_cannot_be_monitored_is_told_once(caplog, keeps, wrapped):
    model = nn.Linear(1, 1)
    if keeps:
        model.latest = {}
    hook = CollapseMonitor(every=1)
    hook.trainer = SimpleNamespace(
        model=SimpleNamespace(module=model) if wrapped else model,
        logger=logging.getLogger("test"),
        start_step=0,
    )
    with caplog.at_level(logging.INFO, "test"):
        hook.before_train()
        hook.after_step()
        hook.after_step()
    assert len(caplog.messages) == (not keeps)
    assert all("Linear keeps no latest" in line for line in caplog.messages)
