"""Seeded k-means on rows of features, on the device they live on."""

import torch
from torch import Tensor


@torch.no_grad()
def kmeans(
    feature: Tensor,
    num_clusters: int,
    num_iters: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cluster rows by Lloyd's iterations from a k-means++ start.

    Args:
        feature: (N, C) rows; computed in float32.
        num_clusters: K; clouds of fewer than K rows get one cluster a row.
        num_iters: Lloyd iterations.
        generator: source of the seeding's randomness (CPU generator).

    Returns:
        (N,) cluster index of every row; clusters left empty are not renumbered.
    """
    feature = feature.float()
    num_rows = len(feature)
    if num_rows <= num_clusters:
        return torch.arange(num_rows, device=feature.device)
    centres = _plus_plus(feature, num_clusters, generator)
    half_norm = None
    for _ in range(num_iters):
        half_norm = 0.5 * centres.square().sum(1)
        assignment = torch.addmm(half_norm, feature, centres.t(), beta=-1).argmax(1)
        counts = torch.bincount(assignment, minlength=num_clusters).unsqueeze(1)
        sums = torch.zeros_like(centres).index_add_(0, assignment, feature)
        # An empty cluster keeps its centre: it may win rows back later.
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    half_norm = 0.5 * centres.square().sum(1)
    return torch.addmm(half_norm, feature, centres.t(), beta=-1).argmax(1)


def _plus_plus(feature: Tensor, num_clusters: int, generator) -> Tensor:
    """Draw starting centres with probability proportional to squared distance."""
    draws = torch.rand(num_clusters, generator=generator, dtype=torch.float64)
    draws = draws.to(feature.device)
    first = (draws[:1] * len(feature)).long()
    centres = [feature[first[0]]]
    distance = (feature - centres[0]).square().sum(1)
    for draw in draws[1:]:
        cumulative = torch.cumsum(distance.double(), dim=0)
        index = torch.searchsorted(cumulative, draw * cumulative[-1], right=True)
        centres.append(feature[index.clamp(max=len(feature) - 1)])
        distance = torch.minimum(distance, (feature - centres[-1]).square().sum(1))
    return torch.stack(centres)
