"""Schedules: reference values, values by hand, and the edges."""

import types

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import CosineScheduler
from pointins_plugin.host.standalone import scheduler as scheduler_module
from pointins_plugin.host.standalone.scheduler import SCHEDULERS, build_scheduler


def optimizer(lr=1.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(cfg, steps, lr=1.0):
    """Learning rate of every optimizer step."""
    opt = optimizer(lr)
    scheduler = build_scheduler(cfg, opt)
    values = []
    for step in range(steps):
        assert scheduler.last_epoch == step
        values.append(opt.param_groups[0]["lr"])
        opt.step()
        if step + 1 < steps:
            scheduler.step()
    return values


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("momentum", {"base_value": 0.994, "final_value": 1, "total_iters": 50}),
        (
            "temperature",
            {
                "start_value": 0.04,
                "base_value": 0.07,
                "final_value": 0.07,
                "warmup_iters": 5,
                "total_iters": 50,
            },
        ),
    ],
)
def test_cosine_equals_the_reference(golden_dir, key, options):
    expected = np.load(golden_dir / "cosine_schedule.npz")[key]
    scheduler = CosineScheduler(**options)
    values = [scheduler.step() for _ in range(len(expected))]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


def test_cosine_parts_by_hand():
    scheduler = CosineScheduler(
        1.0, 0.0, 8, start_value=0.5, warmup_iters=2, freeze_value=7.0, freeze_iters=2
    )
    # two of warm-up, four of cosine, two frozen, then the final value
    expected = [0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 7, 7, 0, 0]
    np.testing.assert_allclose([scheduler.step() for _ in range(10)], expected)
    assert scheduler.iter == 10
    scheduler.reset()
    assert scheduler.step() == scheduler[0] == scheduler.get(0) == 0.5


def test_cosine_resumes_where_iter_says():
    whole = CosineScheduler(1.0, 0.0, 20)
    values = [whole.step() for _ in range(20)]
    again = CosineScheduler(1.0, 0.0, 20)
    again.iter = 13
    assert again.step() == values[13]


@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_cosine_may_be_all_warm_up(warmup):
    scheduler = CosineScheduler(1.0, 2.0, warmup, start_value=0.5, warmup_iters=warmup)
    assert np.isfinite([scheduler.step() for _ in range(warmup + 2)]).all()
    assert scheduler.step() == 2.0


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        ({"type": "MultiStepLR", "milestones": [0.5, 0.75]}, [1, 1, 0.1, 0.01]),
        ({"type": "PolyLR", "power": 1}, [1, 0.8, 0.6, 0.4]),
        ({"type": "ExpLR", "gamma": 0.0625}, [1, 0.5, 0.25, 0.125]),
        ({"type": "CosineAnnealingLR"}, [1, (1 + 0.5**0.5) / 2, 0.5, 0.14644661]),
        (
            {
                "type": "MultiStepWithWarmupLR",
                "milestones": [0.75],
                "warmup_rate": 0.5,
                "warmup_scale": 0.0,
            },
            [0, 0.5, 1, 0.1],
        ),
    ],
)
def test_rates_by_hand(cfg, expected):
    np.testing.assert_allclose(rates({**cfg, "total_steps": 4}, 4), expected)


def test_one_cycle_rises_to_its_maximum_and_falls():
    cfg = {"type": "OneCycleLR", "max_lr": 2.0, "total_steps": 100, "pct_start": 0.2}
    values = rates(cfg, 100)
    assert values[0] == pytest.approx(2.0 / 25)
    assert max(values) == pytest.approx(2.0)
    assert values.index(max(values)) == 19
    assert values[-1] == pytest.approx(2.0 / 25 / 1e4)


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 10, 20, 40, 100])
def test_one_cycle_survives_a_rise_of_one_step(total):
    """torch divides by ``pct_start * total - 1``."""
    cfg = {"type": "OneCycleLR", "max_lr": 2.0, "total_steps": total}
    for pct_start in (0.0, 1 / total, 0.05, 0.1):
        values = rates({**cfg, "pct_start": pct_start}, total)
        assert np.isfinite(values).all()
        assert max(values) <= 2.0 + 1e-9


@pytest.mark.parametrize(
    ("max_lr", "message"),
    [
        (-0.1, r"max_lr=-0\.1; rates are numbers of 0 or more"),
        ("fast", "max_lr='fast'; rates are numbers of 0 or more"),
        ([0.1, 0.2, 0.3], "max_lr has 3 rates for 2 groups"),
    ],
)
def test_rates_that_make_no_sense(max_lr, message):
    with pytest.raises(UserError, match=message):
        build_scheduler(
            {"type": "OneCycleLR", "max_lr": max_lr, "total_steps": 4}, two_groups()
        )


def test_one_rate_for_groups_of_several_is_told(monkeypatch):
    said = []
    logger = types.SimpleNamespace(warning=said.append)
    monkeypatch.setattr(scheduler_module, "get_root_logger", lambda: logger)
    cfg = {"type": "OneCycleLR", "total_steps": 4}
    build_scheduler({**cfg, "max_lr": [0.1, 0.0]}, two_groups())
    build_scheduler({**cfg, "max_lr": 0.1}, two_groups(0.1))
    assert not said
    build_scheduler({**cfg, "max_lr": 0.1}, two_groups())
    assert "rates of param_dicts have no effect; give max_lr a list of 2" in said[0]


def two_groups(second=0.01):
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate}
        for rate in (0.1, second)
    ]
    return torch.optim.AdamW(groups, lr=0.1)


def test_unknown_names_and_options_are_suggested():
    with pytest.raises(UserError, match="did you mean 'PolyLR'"):
        build_scheduler({"type": "PollyLR"}, optimizer())
    with pytest.raises(UserError, match=r"PolyLR has no option 'powr'.*'power'"):
        build_scheduler({"type": "PolyLR", "total_steps": 4, "powr": 1}, optimizer())


def test_values_are_scheduled_by_name_too():
    options = {"base_value": 0.5, "final_value": 1.0, "total_iters": 4}
    scheduler = SCHEDULERS.build({"type": "CosineScheduler", **options})
    assert isinstance(scheduler, CosineScheduler)
    assert len(SCHEDULERS) == 7
    with pytest.raises(UserError, match="no option 'optimizer'"):
        build_scheduler({"type": "CosineScheduler", **options}, optimizer())
