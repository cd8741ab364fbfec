"""`NormMomentum`: running statistics follow as fast as it says."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import HOOKS


def attach(model, **options):
    hook = HOOKS.build({"type": "NormMomentum", **options})
    hook.trainer = SimpleNamespace(model=model)
    hook.before_train()
    return model


def test_statistics_follow_as_fast_as_it_says():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=0.01))
    norm = attach(model, momentum=0.5)[1]
    for _ in range(2):
        norm(torch.tensor([[3.0, 0.0, 1.0], [5.0, 0.0, 1.0]]))
    # 4 after half and half of the rest
    torch.testing.assert_close(norm.running_mean, torch.tensor([3.0, 0.0, 0.75]))


def test_other_modules_are_left_alone():
    model = attach(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3)))
    assert not any(hasattr(module, "momentum") for module in model)


@pytest.mark.parametrize("momentum", [0, -0.1, 1.5])
def test_momentum_is_a_share(momentum):
    with pytest.raises(UserError, match="a share in"):
        HOOKS.build({"type": "NormMomentum", "momentum": momentum})
