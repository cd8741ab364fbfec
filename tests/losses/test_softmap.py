"""Softmaps: normalisation over points, marginals, the derived gradient."""

import math

import pytest
import torch

from pointins_plugin.losses.softmap import log_softmap, softmap_loss, softmap_target
from pointins_plugin.ops.sinkhorn import sinkhorn


def similarity(n=60, k=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, k, generator=generator) * 2 - 1


def test_normalises_over_the_points_of_a_cloud():
    batch = torch.tensor([0] * 25 + [1] * 35)
    values = similarity()
    found = log_softmap(values, batch, 2)
    torch.testing.assert_close(found[:25], torch.log_softmax(values[:25], dim=0))
    torch.testing.assert_close(found[25:], torch.log_softmax(values[25:], dim=0))


def test_large_logits_do_not_overflow():
    values = similarity() * 1e4
    assert torch.isfinite(log_softmap(values, torch.zeros(60).long(), 1)).all()


@pytest.mark.parametrize("scope", ["batch", "cloud"])
def test_target_columns_sum_to_one_over_each_cloud(scope):
    batch = torch.arange(60) // 20
    target = softmap_target(similarity(), batch, 3, scope=scope)
    for cloud in range(3):
        torch.testing.assert_close(target[batch == cloud].sum(0), torch.ones(8))


def test_alpha_zero_is_plain_sinkhorn():
    values = similarity()
    batch = torch.zeros(60).long()
    target = softmap_target(values, batch, 1, temperature=0.07, alpha=0.0)
    plan = sinkhorn(values / 0.07, num_iters=10)
    torch.testing.assert_close(target, plan / plan.sum(0))


def test_cloud_scope_is_each_cloud_alone():
    values, batch = similarity(), torch.arange(60) // 30
    both = softmap_target(values, batch, 2, scope="cloud")
    alone = softmap_target(values[30:], batch[30:] - 1, 1, scope="cloud")
    torch.testing.assert_close(both[30:], alone)


def test_no_point_takes_more_than_the_zipf_bound():
    """Points have equal mass: max_i S(i, k) <= 1 / (N w_k) at convergence."""
    values = similarity(400, 16)
    target = softmap_target(values, torch.zeros(400).long(), 1, num_iters=200)
    weights = torch.arange(1, 17.0) ** -1.3
    weights /= weights.sum()
    assert (target.amax(0) <= 1.02 / (400 * weights)).all()


def test_loss_is_the_divergence_and_starts_at_log_n():
    batch = torch.zeros(60).long()
    sharp = torch.zeros(60, 8)
    sharp[:8] = torch.eye(8)
    uniform = softmap_loss(sharp, torch.zeros(60, 8), batch, 1)
    assert uniform == pytest.approx(math.log(60), rel=1e-5)
    target = torch.softmax(similarity() / 0.1, dim=0)
    assert softmap_loss(target, similarity(), batch, 1) == pytest.approx(0, abs=1e-6)


def test_gradient_is_map_minus_target():
    values = similarity(30, 4).double().requires_grad_()
    batch = torch.arange(30) // 15
    target = softmap_target(similarity(30, 4, seed=1), batch, 2).double()
    loss = softmap_loss(target, values, batch, 2, temperature=0.1)
    (gradient,) = torch.autograd.grad(loss, values)
    expected = (log_softmap(values / 0.1, batch, 2).exp() - target) / (4 * 2) / 0.1
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-5, atol=1e-8)
    assert torch.autograd.gradcheck(
        lambda x: softmap_loss(target, x, batch, 2, temperature=0.5), (values,)
    )


def test_points_may_be_permuted():
    values, batch = similarity(), torch.zeros(60).long()
    target = softmap_target(similarity(seed=1), batch, 1)
    shuffle = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        softmap_loss(target, values, batch, 1),
        softmap_loss(target[shuffle], values[shuffle], batch, 1),
    )


def test_nothing_matched_is_zero_with_a_zero_gradient():
    values = torch.zeros(0, 8, requires_grad=True)
    batch = torch.zeros(0).long()
    target = softmap_target(values.detach(), batch, 2)
    loss = softmap_loss(target, values, batch, 2)
    (gradient,) = torch.autograd.grad(loss, values)
    assert loss == 0
    assert gradient.shape == (0, 8)
    with pytest.raises(ValueError, match="scope must be"):
        softmap_target(values, batch, 2, scope="image")
