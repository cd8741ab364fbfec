"""Reductions of values over segments given by an index.

Half-precision input is reduced and returned in float32: a count or a sum in bfloat16
stops growing at 256.
"""

import torch
from torch import Tensor


def segment_sum(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Sum rows of ``values`` (N,) or (N, C) by ``index`` (N,); empty segments are 0."""
    values = _widen(values)
    shape = (num_segments, *values.shape[1:])
    return values.new_zeros(shape).index_add(0, index, values)


def segment_mean(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Average rows of ``values`` by ``index``; empty segments are 0."""
    total = segment_sum(values, index, num_segments)
    count = torch.bincount(index, minlength=num_segments).clamp_(min=1)
    return total / count.view(-1, *[1] * (values.dim() - 1)).to(total.dtype)


def segment_max(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Largest of ``values`` by ``index``, elementwise; empty segments are 0."""
    return _extreme(values, index, num_segments, "amax")


def segment_min(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Smallest of ``values`` by ``index``, elementwise; empty segments are 0."""
    return _extreme(values, index, num_segments, "amin")


def _extreme(values: Tensor, index: Tensor, num_segments: int, reduce: str) -> Tensor:
    values = _widen(values)
    index = index.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    empty = values.new_zeros((num_segments, *values.shape[1:]))
    return empty.scatter_reduce(0, index, values, reduce, include_self=False)


def _widen(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
