"""Segment reductions against values by hand and a loop over segments."""

import pytest
import torch

from pointins_plugin.ops.segments import (
    segment_max,
    segment_mean,
    segment_sum,
)

REDUCE = {
    segment_sum: lambda rows: rows.sum(0),
    segment_mean: lambda rows: rows.mean(0),
    segment_max: lambda rows: rows.amax(0),
}


def test_values_by_hand_and_empty_segments_are_zero():
    values, index = torch.tensor([1.0, -5.0, 3.0]), torch.tensor([2, 0, 2])
    assert segment_sum(values, index, 4).tolist() == [-5, 0, 4, 0]
    assert segment_mean(values, index, 4).tolist() == [-5, 0, 2, 0]
    assert segment_max(values, index, 4).tolist() == [-5, 0, 3, 0]


@pytest.mark.parametrize("reduce", REDUCE)
def test_equals_a_loop_and_differentiates(reduce):
    torch.manual_seed(0)
    values = torch.randn(60, 3, dtype=torch.float64, requires_grad=True)
    index = torch.randint(7, (60,))
    expected = torch.stack([REDUCE[reduce](values[index == s]) for s in range(7)])
    torch.testing.assert_close(reduce(values, index, 7), expected)
    assert torch.autograd.gradcheck(lambda v: reduce(v, index, 7), values)


@pytest.mark.parametrize("reduce", REDUCE)
def test_no_rows(reduce):
    empty = torch.zeros(0, dtype=torch.long)
    assert reduce(torch.zeros(0, 2), empty, 3).tolist() == [[0, 0]] * 3
    assert reduce(torch.zeros(0, 2), empty, 0).shape == (0, 2)


def test_half_precision_counts_and_sums_beyond_256():
    ones, index = torch.ones(1000, dtype=torch.bfloat16), torch.zeros(1000).long()
    assert segment_sum(ones, index, 1).item() == 1000
    assert segment_mean(ones, index, 1).item() == 1
    assert segment_mean(ones, index, 1).dtype == torch.float32
