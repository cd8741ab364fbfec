"""Running statistics: as fast as `NormMomentum` says, or taken anew."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.hooks.norms import recalibrate
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


def test_statistics_taken_anew_are_the_mean_of_the_batches():
    norm = nn.BatchNorm1d(1, momentum=0.01)
    norm.running_mean.fill_(100)
    norm.num_batches_tracked.fill_(50)
    model = nn.Sequential(norm, nn.Dropout(0.5)).eval()
    batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [8.0]])]
    seen = []
    recalibrate(model, (lambda b=b: seen.append(model(b)) for b in batches))
    # means 1 and 6, variances (of samples) 2 and 8
    torch.testing.assert_close(norm.running_mean, torch.tensor([3.5]))
    torch.testing.assert_close(norm.running_var, torch.tensor([5.0]))
    assert norm.momentum == 0.01
    assert not any(module.training for module in model.modules())
    # nothing else trained meanwhile: no value was dropped
    assert all(torch.count_nonzero(value) == 2 for value in seen)


def test_without_batch_norms_no_batch_is_run():
    def never():
        raise AssertionError

    recalibrate(nn.LayerNorm(3), [never])


def test_a_failure_leaves_norms_as_they_were():
    model = nn.Sequential(nn.BatchNorm1d(1, momentum=0.01)).eval()

    def fail():
        raise RuntimeError("no scene")

    with pytest.raises(RuntimeError, match="no scene"):
        recalibrate(model, [fail])
    assert model[0].momentum == 0.01
    assert not model[0].training
