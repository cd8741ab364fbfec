"""Seeded k-means on rows of features, on the device they live on."""

import torch
from torch import Tensor

from pointins_plugin.ops.device import on_gpu, to_device
from pointins_plugin.ops.segments import segment_count


@torch.no_grad()
def kmeans(
    feature: Tensor,
    num_clusters: int,
    num_iters: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cluster rows by Lloyd's iterations from a k-means++ start.

    Args:
        feature: (N, C) rows; computed in float32, inside autocast too.
        num_clusters: K; clouds of fewer than K rows get one cluster a row.
        num_iters: Lloyd iterations.
        generator: source of the seeding's randomness (CPU generator).

    Returns:
        (N,) cluster index of every row; clusters left empty are not renumbered.
    """
    # Autocast would round the products that distances are made of.
    with torch.autocast(feature.device.type, enabled=False):
        return _lloyd(feature.float(), num_clusters, num_iters, generator)


def _lloyd(feature: Tensor, num_clusters: int, num_iters: int, generator) -> Tensor:
    num_rows = len(feature)
    if num_rows <= num_clusters:
        return torch.arange(num_rows, device=feature.device)
    # Around their mean, products of rows lose the fewest digits.
    feature = feature - feature.mean(0)
    centres, assignment = _plus_plus(feature, num_clusters, generator)
    for _ in range(num_iters):
        counts = segment_count(assignment, num_clusters).unsqueeze(1)
        sums = torch.zeros_like(centres).index_add_(0, assignment, feature)
        # An empty cluster keeps its centre: it may win rows back later.
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        before, assignment = assignment, _nearest(feature, centres)
        # At rest; a GPU would have to wait to be asked.
        if not on_gpu(feature) and torch.equal(before, assignment):
            break
    return assignment


def _nearest(feature: Tensor, centres: Tensor) -> Tensor:
    half_norm = 0.5 * centres.square().sum(1)
    return torch.addmm(half_norm, feature, centres.t(), beta=-1).max(1).indices


def _plus_plus(feature: Tensor, num_clusters: int, generator) -> Tensor:
    """Draw centres with probability proportional to squared distance; rows' nearest."""
    draws = torch.rand(num_clusters, generator=generator, dtype=torch.float64)
    draws = to_device(draws, feature.device)
    square = torch.linalg.vector_norm(feature, dim=1).square()

    def distance_to(index: Tensor) -> Tensor:
        # A row by index_select: indexing by a number on a GPU would read it first.
        products = feature @ feature.index_select(0, index[None])[0]
        return (square + square.index_select(0, index[None]) - 2 * products).clamp(
            min=0
        )

    chosen = [(draws[0] * len(feature)).long()]
    distance = distance_to(chosen[0])
    assignment = torch.zeros_like(distance, dtype=torch.long)
    for number, draw in enumerate(draws[1:], 1):
        cumulative = torch.cumsum(distance.double(), dim=0)
        index = torch.searchsorted(cumulative, draw * cumulative[-1], right=True)
        chosen.append(index.clamp(max=len(feature) - 1))
        other = distance_to(chosen[-1])
        assignment.masked_fill_(other < distance, number)
        distance = torch.minimum(distance, other)
    return feature[torch.stack(chosen)], assignment
