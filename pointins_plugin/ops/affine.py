"""Affine maps of batched views: inverse, application to vectors, recovery."""

import torch
from torch import Tensor

from pointins_plugin.ops.device import on_gpu
from pointins_plugin.ops.segments import segment_count


def inverse_linear(affine: Tensor) -> Tensor:
    """Return the inverse linear parts (B, 3, 3) of affine maps (B, 4, 4) in float64.

    An offset is a vector: only the linear part acts on it (``o' = A o``), so this is
    all that is needed to carry a prediction back to the origin frame. Source:
    PointINS, tracked affine. Singular parts raise on the CPU; on a GPU, which would
    have to wait for the answer, their inverse is NaN.
    """
    linear = affine[:, :3, :3].double()
    inverse, info = torch.linalg.inv_ex(linear, check_errors=not on_gpu(linear))
    return inverse.masked_fill(info[:, None, None] != 0, torch.nan)


def transform_vectors(linear: Tensor, vectors: Tensor, batch: Tensor) -> Tensor:
    """Apply one linear map per cloud to its vectors.

    Args:
        linear: (B, 3, 3).
        vectors: (N, 3).
        batch: (N,) cloud index of every vector.

    Returns:
        (N, 3) in the dtype of ``vectors``, inside autocast too; differentiable in
        ``vectors``.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        per_vector = linear.to(vectors.dtype)[batch]
        return torch.einsum("nij,nj->ni", per_vector, vectors)


@torch.no_grad()
def fit_affine(source: Tensor, target: Tensor, batch: Tensor, num_clouds: int):
    """Fit per cloud the affine map that carries source to target points best.

    For data pipelines that did not record their matrix: the map is recovered by
    least squares from the coordinates before and after augmentation. Jitter averages
    out. Directions in which a cloud does not extend (all of a wall) are completed so
    that the map can be inverted; an empty cloud gets the identity.

    Args:
        source: (N, 3) coordinates in the origin frame.
        target: (N, 3) the same points in the augmented frame.
        batch: (N,) cloud index.
        num_clouds: B.

    Returns:
        (B, 4, 4) float64, source to target, of full rank.
    """
    source, target = source.double(), target.double()
    size = (num_clouds, 3)
    num_points = segment_count(batch, num_clouds)
    count = num_points.clamp(min=1).unsqueeze(1)
    source_mean = source.new_zeros(size).index_add_(0, batch, source) / count
    target_mean = target.new_zeros(size).index_add_(0, batch, target) / count
    x = source - source_mean[batch]
    y = target - target_mean[batch]
    moment = source.new_zeros(num_clouds, 9)
    cross = source.new_zeros(num_clouds, 9)
    moment.index_add_(0, batch, (x[:, :, None] * x[:, None, :]).reshape(-1, 9))
    cross.index_add_(0, batch, (y[:, :, None] * x[:, None, :]).reshape(-1, 9))
    linear = cross.view(-1, 3, 3) @ torch.linalg.pinv(
        moment.view(-1, 3, 3), hermitian=True, rtol=1e-9
    )
    linear = _complete(linear)
    affine = torch.eye(4, dtype=torch.float64, device=source.device)
    affine = affine.repeat(num_clouds, 1, 1)
    filled = (num_points > 0)[:, None]
    shift = target_mean - torch.einsum("bij,bj->bi", linear, source_mean)
    affine[:, :3, :3] = torch.where(filled[:, None], linear, affine[:, :3, :3])
    affine[:, :3, 3] = torch.where(filled, shift, affine[:, :3, 3])
    return affine


def _complete(linear: Tensor) -> Tensor:
    """Give singular maps (B, 3, 3) full rank.

    A direction that is mapped to zero becomes the free one of the image, stretched as
    the others are on average and turned no more than need be.
    """
    u, stretch, vt = torch.linalg.svd(linear)
    lost = stretch <= 1e-6 * stretch[:, :1].clamp(min=1e-300)
    kept = stretch * ~lost
    mean = kept.sum(1, keepdim=True) / (~lost).sum(1, keepdim=True).clamp(min=1)
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    # The sign of a lost pair of axes is free.
    away = (u * vt.transpose(1, 2)).sum(1) < 0
    filled = torch.where(lost, torch.where(away, -mean, mean), stretch)
    return torch.where(lost.any(1)[:, None, None], (u * filled[:, None]) @ vt, linear)
