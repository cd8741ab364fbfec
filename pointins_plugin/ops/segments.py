"""Reductions of values over segments given by an index."""

from torch import Tensor


def segment_sum(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Sum rows of ``values`` (N,) or (N, C) by ``index`` (N,); empty segments are 0."""
    shape = (num_segments, *values.shape[1:])
    return values.new_zeros(shape).index_add(0, index, values)


def segment_mean(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Average rows of ``values`` by ``index``; empty segments are 0."""
    count = values.new_zeros(num_segments).index_add(
        0, index, values.new_ones(len(index))
    )
    total = segment_sum(values, index, num_segments)
    return total / count.clamp(min=1).view(-1, *[1] * (values.dim() - 1))


def segment_max(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Largest of ``values`` by ``index``, elementwise; empty segments are 0."""
    return _extreme(values, index, num_segments, "amax")


def segment_min(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Smallest of ``values`` by ``index``, elementwise; empty segments are 0."""
    return _extreme(values, index, num_segments, "amin")


def _extreme(values, index, num_segments, reduce):
    index = index.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    empty = values.new_zeros((num_segments, *values.shape[1:]))
    return empty.scatter_reduce(0, index, values, reduce, include_self=False)
