"""Prototype assignment: marginals, Sonata's reference numbers, gradients."""

import math

import numpy as np
import pytest
import torch

from pointins_plugin.losses.prototype import prototype_loss, prototype_target


def cosines(n=60, k=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, k, generator=generator) * 2 - 1


def test_equals_sonatas_assignment(golden_dir):
    data = np.load(golden_dir / "sonata_sinkhorn.npz")
    cases = sorted({name.split("/")[0] for name in data.files})
    assert cases
    for case in cases:
        target = prototype_target(
            torch.from_numpy(data[f"{case}/similarity"]),
            float(data[f"{case}/temperature"]),
            int(data[f"{case}/num_iter"]),
        )
        np.testing.assert_allclose(target, data[f"{case}/expected"], atol=1e-5)


def test_two_by_two_by_hand():
    # exp: [[1, 1], [1, 3]]; columns to 1/2: [[1/4, 1/8], [1/4, 3/8]]; rows to one:
    # [2/3, 1/3], [2/5, 3/5]
    logits = torch.log(torch.tensor([[1.0, 1.0], [1.0, 3.0]]))
    target = prototype_target(logits * 0.1, 0.1, num_iters=1)
    np.testing.assert_allclose(target, [[2 / 3, 1 / 3], [2 / 5, 3 / 5]], rtol=1e-5)


def test_points_are_assigned_once_and_prototypes_alike():
    target = prototype_target(cosines(200), 0.07, num_iters=60)
    torch.testing.assert_close(target.sum(1), torch.ones(200))
    torch.testing.assert_close(target.sum(0), torch.full((8,), 25.0), rtol=1e-3, atol=0)


def test_one_favourite_is_shared_out():
    """Were the columns not balanced, all points would take the same prototype."""
    similarity = cosines() * 0.1
    similarity[:, 3] += 0.8
    assert (similarity.argmax(1) == 3).all()
    assert prototype_target(similarity, 0.05).sum(0)[3] < 2 * 60 / 8


def test_half_precision_and_wide_ranges_are_finite():
    target = prototype_target(cosines().half(), 0.02)
    assert target.dtype == torch.float32
    assert torch.isfinite(target).all()
    torch.testing.assert_close(target.sum(1), torch.ones(60))


def test_loss_is_the_cross_entropy_averaged_by_cloud():
    target = torch.softmax(cosines(seed=1) * 5, dim=1)
    batch = torch.tensor([0] * 10 + [2] * 50)
    values = cosines()
    rows = -(target * torch.log_softmax(values / 0.2, dim=1)).sum(1)
    # three clouds, of which the second has no row
    expected = (rows[:10].mean() + rows[10:].mean()) / 3
    loss = prototype_loss(target, values, batch, 3, temperature=0.2)
    torch.testing.assert_close(loss, expected)


def test_loss_starts_at_log_k():
    target = prototype_target(cosines(), 0.07)
    loss = prototype_loss(target, torch.zeros(60, 8), torch.zeros(60).long(), 1)
    assert loss == pytest.approx(math.log(8), rel=1e-5)


def test_gradient_is_softmax_minus_target():
    values = cosines(12, 4).double().requires_grad_()
    target = prototype_target(cosines(12, 4, seed=1), 0.1).double()
    target /= target.sum(1, keepdim=True)
    batch = torch.arange(12) // 6
    loss = prototype_loss(target, values, batch, 2, temperature=0.5)
    (gradient,) = torch.autograd.grad(loss, values)
    expected = (torch.softmax(values / 0.5, 1) - target) / 12 / 0.5
    torch.testing.assert_close(gradient, expected.detach())
    assert torch.autograd.gradcheck(
        lambda x: prototype_loss(target, x, batch, 2, temperature=0.5), (values,)
    )


def test_autocast_does_not_coarsen():
    target = prototype_target(cosines(), 0.05)
    batch = torch.zeros(60).long()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = prototype_loss(target, cosines(), batch, 1)
    assert loss == prototype_loss(target, cosines(), batch, 1)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_are_finite(rows):
    values = torch.zeros(rows, 8, requires_grad=True)
    target = prototype_target(values.detach(), 0.05)
    assert target.shape == (rows, 8)
    loss = prototype_loss(target, values, torch.zeros(rows).long(), 2)
    (gradient,) = torch.autograd.grad(loss, values)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert rows or loss == 0


def test_target_has_no_gradient():
    values = cosines().requires_grad_()
    assert not prototype_target(values, 0.05).requires_grad
