"""Offset distance: values by hand, masks, degenerate input, gradients."""

import pytest
import torch

from pointins_plugin.losses.offset import OffsetLoss, mean_per_cloud, offset_distance


def test_known_values():
    prediction = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    target = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0]])
    # |d|_1 + 1 - cos: equal 0; opposite 2 + 2; orthogonal 3 + 1; zero vectors have no
    # direction, so only their length counts: 3 and 2.
    expected = torch.tensor([0.0, 4.0, 4.0, 3.0, 2.0])
    torch.testing.assert_close(offset_distance(prediction, target), expected)
    halves = torch.tensor([0.0, 1 + 2, 1.5 + 1, 1.5, 1.0])
    torch.testing.assert_close(offset_distance(prediction, target, unit=2.0), halves)


def test_rescaling_metres_and_unit_together_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 30, 3, generator=generator)
    small = offset_distance(a * 0.01, b * 0.01, unit=0.01)
    torch.testing.assert_close(offset_distance(a, b), small, rtol=1e-4, atol=1e-5)


def test_mean_per_cloud_counts_clouds_alike():
    values = torch.tensor([1.0, 3.0, 10.0, 7.0])
    batch = torch.tensor([0, 0, 1, 1])
    mask = torch.tensor([True, True, True, False])
    assert mean_per_cloud(values, batch, 2) == pytest.approx((2 + 8.5) / 2)
    assert mean_per_cloud(values, batch, 2, mask) == pytest.approx((2 + 10) / 2)
    # a third cloud without a value counts as zero
    assert mean_per_cloud(values, batch, 3, mask) == pytest.approx(12 / 3)


def test_concatenated_batch_is_the_mean_of_its_halves():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 40, 3, generator=generator)
    batch = torch.arange(4).repeat_interleave(10)
    loss = OffsetLoss(unit=0.3)
    whole = loss(a, b, batch=batch, num_clouds=4)
    parts = [
        loss(a[part], b[part], batch=batch[part] - first, num_clouds=2)
        for part, first in ((slice(0, 20), 0), (slice(20, 40), 2))
    ]
    torch.testing.assert_close(whole, sum(parts) / 2)


@pytest.mark.parametrize("num", [0, 1, 5])
def test_degenerate_input_is_finite_with_finite_gradient(num):
    prediction = torch.zeros(num, 3, requires_grad=True)
    none = torch.zeros(num, dtype=torch.bool)
    for mask in (none, ~none):
        loss = OffsetLoss()(prediction, torch.zeros(num, 3), mask=mask)
        (gradient,) = torch.autograd.grad(loss, prediction)
        assert loss == 0
        assert torch.isfinite(gradient).all()


def test_gradient_in_float64():
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: offset_distance(x, b, 0.7).sum(), (a,))


def test_float32_inside_autocast():
    a, b = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = OffsetLoss()(a, b)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, OffsetLoss()(a, b))


def test_bad_unit_is_refused():
    with pytest.raises(ValueError, match="unit > 0"):
        OffsetLoss(unit=0.0)


@pytest.mark.parametrize("length", [1e-30, 1e-22, 1e-18, 1e-10, 1e-5])
def test_gradient_is_finite_however_short_the_prediction(length):
    prediction = torch.full((4, 3), length, requires_grad=True)
    prediction = (prediction * torch.tensor([1.0, 0.5, -1.0])).detach()
    prediction.requires_grad_()
    offset_distance(prediction, torch.ones(4, 3)).sum().backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().max() < 1e6
