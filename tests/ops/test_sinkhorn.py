"""Sinkhorn scaling against marginals, plain Sinkhorn and Sonata's reference."""

import numpy as np
import pytest
import torch

from pointins_plugin.ops import sinkhorn as sinkhorn_module
from pointins_plugin.ops.sinkhorn import sinkhorn, zipf_weights

WIDE = 1e3  # a range that asks for the log domain


def cosines(n, k, seed=0):
    return torch.rand(n, k, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_zipf_weights_are_powers_of_the_rank():
    weights = zipf_weights(4, 2.0)
    expected = np.array([1, 1 / 4, 1 / 9, 1 / 16])
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-6)


def test_two_by_two_by_hand():
    # rows: [1, 1] -> [1/4, 1/4], [1, 3] -> [1/8, 3/8]; columns sum to 3/8, 5/8 and
    # are scaled to 1/2 each: factors 4/3 and 4/5.
    logits = torch.log(torch.tensor([[1.0, 1.0], [1.0, 3.0]]))
    expected = [[1 / 3, 1 / 5], [1 / 6, 3 / 10]]
    for log_range in (None, WIDE, 10.0):
        plan = sinkhorn(logits, num_iters=1, log_range=log_range)
        np.testing.assert_allclose(plan, expected, rtol=1e-6)


@pytest.mark.parametrize("first", ["rows", "columns"])
@pytest.mark.parametrize("alpha", [0.0, 1.3])
def test_kernel_and_log_domain_agree(first, alpha):
    logits = cosines(200, 24) / 0.05
    mass = zipf_weights(24, alpha)
    fast = sinkhorn(logits, mass, num_iters=8, first=first, log_range=40.0)
    slow = sinkhorn(logits, mass, num_iters=8, first=first, log_range=WIDE)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("log_range", [None, WIDE, 2 / 0.07])
def test_marginals_converge(log_range):
    mass = zipf_weights(32, 1.3)
    plan = sinkhorn(cosines(500, 32) / 0.07, mass, num_iters=60, log_range=log_range)
    torch.testing.assert_close(plan.sum(0), mass, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        plan.sum(1), torch.full((500,), 1 / 500), rtol=2e-2, atol=0
    )


def test_row_shift_changes_nothing():
    logits = cosines(50, 8) / 0.1
    shifted = logits + torch.linspace(-5, 5, 50)[:, None]
    torch.testing.assert_close(
        sinkhorn(logits, num_iters=4), sinkhorn(shifted, num_iters=4)
    )


@pytest.mark.parametrize("log_range", [None, WIDE, 40.0])
@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (5, 1)])
def test_small_problems_are_finite(shape, log_range):
    plan = sinkhorn(torch.zeros(shape), num_iters=3, log_range=log_range)
    assert plan.shape == shape
    assert torch.isfinite(plan).all()
    if plan.numel():
        torch.testing.assert_close(plan.sum(), torch.tensor(1.0))


def test_equals_sonata_reference(golden_dir):
    data = np.load(golden_dir / "sonata_sinkhorn.npz")
    for case in ("case0", "case1", "case2"):
        similarity = torch.from_numpy(data[f"{case}/similarity"])
        temperature = float(data[f"{case}/temperature"])
        num_iters = int(data[f"{case}/num_iter"])
        for log_range in (None, WIDE, 2.0 / temperature):
            plan = sinkhorn(
                similarity / temperature,
                num_iters=num_iters,
                first="columns",
                log_range=log_range,
            )
            expected = data[f"{case}/expected"]
            np.testing.assert_allclose(plan * len(plan), expected, atol=1e-5)


@pytest.mark.parametrize("first", ["rows", "columns"])
@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_rows_worked_on_at_once_do_not_matter(first, chunk, monkeypatch):
    logits = 3 * cosines(40, 12) / 0.05
    whole = sinkhorn(logits, num_iters=5, first=first, log_range=WIDE)
    monkeypatch.setattr(sinkhorn_module, "_CHUNK", chunk)
    parts = sinkhorn(logits, num_iters=5, first=first, log_range=WIDE)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-9)


def test_a_wide_range_is_found_out():
    logits = torch.tensor([[0.0, 300.0], [-300.0, 0.0], [300.0, -300.0]])
    plan = sinkhorn(logits, num_iters=3)
    assert torch.isfinite(plan).all()
    torch.testing.assert_close(plan, sinkhorn(logits, num_iters=3, log_range=WIDE))
    torch.testing.assert_close(plan.sum(0), torch.full((2,), 0.5))
