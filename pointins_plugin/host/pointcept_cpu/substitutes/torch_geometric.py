"""The two functions of torch_geometric that Pointcept calls."""

import torch

from .torch_cluster import grid_cluster
from .torch_scatter import scatter as _scatter

__all__ = ["scatter", "voxel_grid"]


def voxel_grid(pos, size, batch=None, start=None, end=None):
    """Number the grid cells of points (N, D) cloud by cloud.

    Args:
        size: edge of a cell, one number or D.
        batch: (N,) clouds.
        start, end: corners of the grid, one number or D; by default the points'.
    """
    pos = pos.unsqueeze(-1) if pos.dim() == 1 else pos
    dim = pos.shape[1]
    batch = pos.new_zeros(len(pos)) if batch is None else batch.to(pos)
    size = [*_numbers(size, dim), 1]
    if start is not None:
        start = pos.new_tensor([*_numbers(start, dim), 0])
    if end is not None:
        end = pos.new_tensor([*_numbers(end, dim), float(batch.max())])
    located = torch.cat([pos, batch.view(-1, 1)], dim=1)
    return grid_cluster(located, pos.new_tensor(size), start, end)


def _numbers(value, dim):
    values = torch.as_tensor(value).reshape(-1).tolist()
    return values * dim if len(values) == 1 else values


def scatter(src, index, dim=0, dim_size=None, reduce="sum"):
    """Reduce the values of a group, along the first axis by default."""
    return _scatter(src, index, dim, None, dim_size, reduce)
