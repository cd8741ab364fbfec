"""Surface normals from neighbourhoods."""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

_ROWS = 1 << 17  # points whose neighbourhoods are held at a time


def smallest_axes(covariance: Tensor) -> Tensor:
    """Return the unit eigenvectors (N, 3) of the least eigenvalues of (N, 3, 3).

    In closed form (eigenvalues by the trigonometric formula, the vector as the
    largest cross product of two rows), because a batch of tiny LAPACK calls costs
    more than everything around it. Where no direction is distinguished the result
    is some unit vector.
    """
    matrix = covariance.double()
    scale = matrix.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-300)
    matrix = matrix / scale[:, None, None]
    mean = matrix.diagonal(dim1=1, dim2=2).mean(1)
    eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    centred = matrix - mean[:, None, None] * eye
    spread = (centred.square().sum((1, 2)) / 6).clamp(min=1e-30).sqrt()
    first, second, third = (centred / spread[:, None, None]).unbind(1)
    half_det = (first * torch.linalg.cross(second, third)).sum(1) / 2
    angle = torch.acos(half_det.clamp(-1, 1)) / 3
    least = mean + 2 * spread * torch.cos(angle + 2 * torch.pi / 3)
    rows = matrix - least[:, None, None] * eye
    crosses = torch.stack(
        [
            torch.linalg.cross(rows[:, 0], rows[:, 1]),
            torch.linalg.cross(rows[:, 0], rows[:, 2]),
            torch.linalg.cross(rows[:, 1], rows[:, 2]),
        ],
        dim=1,
    )
    length = crosses.square().sum(2)
    best = length.argmax(1)
    vector = crosses[torch.arange(len(crosses), device=crosses.device), best]
    fallback = eye[2].expand_as(vector)
    defined = length.amax(1) > 1e-24
    vector = torch.where(defined[:, None], vector, fallback)
    return torch.nn.functional.normalize(vector, dim=1).to(covariance.dtype)


def neighbour_normals(coord: Tensor, neighbour: Tensor) -> Tensor:
    """Fit a plane to every point and its neighbours.

    Args:
        coord: (N, 3) metres.
        neighbour: (N, k) indices, -1 for none.

    Returns:
        (N, 3) unit normals of undecided sign.
    """
    if not len(coord):
        return torch.zeros_like(coord)
    vector = coord[neighbour.clamp(min=0)] - coord[:, None]
    return _plane_normals(vector, neighbour >= 0)


def _plane_normals(vector: Tensor, present: Tensor) -> Tensor:
    """Return normals (N, 3) of planes through points and neighbours.

    Args:
        vector: (N, k, 3) from the points to the neighbours.
        present: (N, k) bool.
    """
    vector = vector * present.unsqueeze(-1)
    count = present.sum(1, keepdim=True) + 1
    mean = vector.sum(1) / count
    second = torch.einsum("nki,nkj->nij", vector, vector) / count[:, :, None]
    return smallest_axes(second - mean[:, :, None] * mean[:, None, :])


def estimate_normals(
    coord: np.ndarray,
    k: int = 16,
    toward: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Estimate normals from the k nearest points.

    Args:
        coord: (N, 3) metres.
        k: neighbours of a point.
        toward: (3,) viewpoint that normals face; None faces them up.
        rows: (M,) points whose normals are wanted, all if None; memory beyond that of
            the k-d tree grows with them only.

    Returns:
        (N, 3) or (M, 3) float32 unit vectors.
    """
    coord = np.asarray(coord, dtype=np.float32)
    rows = np.arange(len(coord)) if rows is None else np.asarray(rows)
    if len(coord) < 3:
        return np.tile(np.float32([0, 0, 1]), (len(rows), 1))
    k = min(k, len(coord) - 1)
    tree = cKDTree(coord)
    normal = np.empty((len(rows), 3), np.float32)
    for start in range(0, len(rows), _ROWS):
        points = coord[rows[start : start + _ROWS]]
        _, neighbour = tree.query(points, k=k + 1)
        vector = torch.from_numpy(coord[neighbour[:, 1:]] - points[:, None])
        present = torch.ones(vector.shape[:2], dtype=torch.bool)
        normal[start : start + _ROWS] = _plane_normals(vector, present).numpy()
    if toward is None:
        flip = normal[:, 2] < 0
    else:
        facing = np.asarray(toward, dtype=np.float32) - coord[rows]
        flip = (normal * facing).sum(1) < 0
    normal[flip] *= -1
    return normal
