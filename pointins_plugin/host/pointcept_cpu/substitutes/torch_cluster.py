"""torch_cluster's neighbours, sampling and grids by SciPy's k-d trees."""

import numpy as np
import torch
from scipy.spatial import cKDTree

__all__ = ["fps", "grid_cluster", "knn", "knn_graph", "nearest", "radius"]


def _clouds(number, batch):
    """Yield (first, last) of every cloud of a batch sorted by cloud."""
    if batch is None:
        return [(0, number)]
    ends = torch.bincount(batch.cpu()).cumsum(0).tolist() if number else []
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _pairs_of_clouds(x, y, batch_x, batch_y):
    """Yield (first of x, points of x, first of y, points of y) of clouds with both."""
    x, y = (np.ascontiguousarray(t.detach().cpu().double().numpy()) for t in (x, y))
    x, y = (t.reshape(len(t), -1) for t in (x, y))
    clouds = zip(_clouds(len(x), batch_x), _clouds(len(y), batch_y), strict=False)
    for (first_x, last_x), (first_y, last_y) in clouds:
        if first_x < last_x and first_y < last_y:
            yield first_x, x[first_x:last_x], first_y, y[first_y:last_y]


def _edges(rows, columns, like):
    rows, columns = (
        np.concatenate(part) if part else np.empty(0, np.int64)
        for part in (rows, columns)
    )
    return torch.from_numpy(np.stack([rows, columns]).astype(np.int64)).to(like.device)


def knn(x, y, k, batch_x=None, batch_y=None, cosine=False, num_workers=1, **_):
    """Return (2, E): for every point of y its k nearest of x in its cloud, in order.

    Args:
        x: (N, D). y: (M, D). batch_x, batch_y: (N,), (M,) ascending clouds.
        k: neighbours; fewer where a cloud has fewer points.
        cosine: measure the angle instead of the distance.
    """
    if cosine:
        x, y = (torch.nn.functional.normalize(t, dim=1) for t in (x, y))
    rows, columns = [], []
    for first_x, points, first_y, queries in _pairs_of_clouds(x, y, batch_x, batch_y):
        near = min(k, len(points))
        _, index = cKDTree(points).query(queries, k=[*range(1, near + 1)])
        rows.append(np.repeat(np.arange(len(queries)), near) + first_y)
        columns.append(index.reshape(-1) + first_x)
    return _edges(rows, columns, y)


def knn_graph(x, k, batch=None, loop=False, flow="source_to_target", **options):
    """Return (2, E) edges between every point and its k nearest others."""
    edges = knn(x, x, k if loop else k + 1, batch, batch, **options)
    if not loop:
        edges = edges[:, edges[0] != edges[1]]
    return edges.flip(0) if flow == "source_to_target" else edges


def radius(x, y, r, batch_x=None, batch_y=None, max_num_neighbors=32, **_):
    """Return (2, E): for every point of y those of x nearer than r in its cloud.

    Args:
        max_num_neighbors: most of them for a point of y; the nearest are kept.
    """
    rows, columns = [], []
    for first_x, points, first_y, queries in _pairs_of_clouds(x, y, batch_x, batch_y):
        near = min(max_num_neighbors, len(points))
        distance, index = cKDTree(points).query(
            queries, k=[*range(1, near + 1)], distance_upper_bound=r
        )
        found = distance < r
        rows.append(np.nonzero(found)[0] + first_y)
        columns.append(index[found] + first_x)
    return _edges(rows, columns, y)


def nearest(x, y, batch_x=None, batch_y=None):
    """Return (N,): for every point of x the nearest of y in its cloud."""
    return knn(y, x, 1, batch_y, batch_x)[1]


def fps(src, batch=None, ratio=0.5, random_start=True, **_):
    """Return indices of points, each the farthest from those before it in its cloud.

    Args:
        src: (N, D). batch: (N,) ascending clouds.
        ratio: share of a cloud's points, rounded up.
        random_start: start from any point instead of the first.
    """
    points = src.detach().cpu().double().numpy().reshape(len(src), -1)
    chosen = []
    for first, last in _clouds(len(points), batch):
        if first == last:
            continue
        cloud = points[first:last]
        start = int(torch.randint(len(cloud), ())) if random_start else 0
        number = int(np.ceil(len(cloud) * float(ratio)))
        chosen.append(farthest_points(cloud, number, start) + first)
    chosen = np.concatenate(chosen) if chosen else np.empty(0, np.int64)
    return torch.from_numpy(chosen).to(src.device)


def farthest_points(points: np.ndarray, number: int, start: int = 0) -> np.ndarray:
    """Choose points (number,) from (N, D), each the farthest from those before it."""
    chosen = np.empty(number, dtype=np.int64)
    distance = np.full(len(points), np.inf, dtype=points.dtype)
    current = start
    for i in range(number):
        chosen[i] = current
        step = points - points[current]
        np.minimum(distance, np.einsum("nd,nd->n", step, step), out=distance)
        current = int(distance.argmax())
    return chosen


def grid_cluster(pos, size, start=None, end=None):
    """Number the grid cells of points (N, D), the first axis running fastest.

    Args:
        size: (D,) edges of a cell.
        start, end: (D,) corners of the grid; by default those of the points.
    """
    start = pos.amin(0) if start is None else start.to(pos)
    end = pos.amax(0) if end is None else end.to(pos)
    size = size.to(pos)
    number = ((end - start) / size).long() + 1
    stride = torch.cat([number.new_ones(1), number.cumprod(0)[:-1]])
    return (((pos - start) / size).long() * stride).sum(1)
