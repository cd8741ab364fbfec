"""Segments of rows: their index and count, and reductions of values over them.

Half-precision input is reduced and returned in float32: a count or a sum in bfloat16
stops growing at 256.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def segment_index(offset: Tensor, num_rows: int) -> Tensor:
    """Return the segment of every row (N,) from cumulative counts (B,) ending at N."""
    index = torch.arange(len(offset), device=offset.device)
    count = torch.diff(offset, prepend=offset.new_zeros(1))
    # With the number of rows known a GPU need not be asked for it.
    return torch.repeat_interleave(index, count, output_size=num_rows)


def segment_ends(offset: Tensor | Sequence[int]) -> list[int]:
    """Return cumulative counts as numbers: read, for which a GPU waits, if a tensor."""
    return offset.tolist() if isinstance(offset, Tensor) else list(offset)


def segment_count(index: Tensor, num_segments: int) -> Tensor:
    """Count the rows of every segment (S,) long; bincount would ask a GPU for S."""
    return index.new_zeros(num_segments).index_add_(0, index, torch.ones_like(index))


def segment_sum(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Sum rows of ``values`` (N,) or (N, C) by ``index`` (N,); empty segments are 0."""
    values = _widen(values)
    shape = (num_segments, *values.shape[1:])
    return values.new_zeros(shape).index_add(0, index, values)


def segment_mean(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Average rows of ``values`` by ``index``; empty segments are 0."""
    total = segment_sum(values, index, num_segments)
    count = segment_count(index, num_segments).clamp_(min=1)
    return total / count.view(-1, *[1] * (values.dim() - 1)).to(total.dtype)


def segment_max(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Largest of ``values`` by ``index``, elementwise; empty segments are 0."""
    values = _widen(values)
    index = index.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    empty = values.new_zeros((num_segments, *values.shape[1:]))
    return empty.scatter_reduce(0, index, values, "amax", include_self=False)


def _widen(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
