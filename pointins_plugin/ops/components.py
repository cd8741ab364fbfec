"""Connected components of graphs and of points within a radius."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as _scipy_components
from scipy.spatial import cKDTree
from torch import Tensor

from pointins_plugin.ops.device import on_gpu
from pointins_plugin.ops.device_components import device_group_points
from pointins_plugin.ops.neighbour_components import edge_components

_LARGEST_KEY = 2**62


def _components(source: np.ndarray, target: np.ndarray, num: int) -> np.ndarray:
    """Label nodes by component, in order of first appearance."""
    if num == 0:
        return np.zeros(0, dtype=np.int64)
    graph = coo_matrix((np.ones(len(source), bool), (source, target)), (num, num))
    _, label = _scipy_components(graph, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def connected_components(edges: Tensor, num_nodes: int) -> Tensor:
    """Return the component of every node of an undirected graph.

    Args:
        edges: (2, E) long.
        num_nodes: N.

    Returns:
        (N,) long, numbered in order of first appearance.
    """
    if on_gpu(edges):
        return edge_components(edges[0], edges[1], num_nodes)
    source, target = edges.cpu().numpy()
    label = _components(source, target, num_nodes)
    return torch.from_numpy(label).to(edges.device)


def group_points(
    centers: Any,
    radius: float,
    labels: Any = None,
    batch: Any = None,
    min_size: int = 1,
) -> Any:
    """Group points that are nearer than a radius, transitively.

    The exact partition of PointGroup's ball query and breadth-first search, without
    its cap on neighbours: two points are connected if their distance is strictly
    below ``radius`` and label and batch agree.

    Points are first put into cells so small that all of a cell are connected; then
    only pairs of neighbouring cells that are not yet in one group are examined, so
    that dense piles and duplicates cost no more than their cells. Tensors of a GPU stay
    there (``ops.device_components``): the same groups, for four waits a call.

    Args:
        centers: (N, 3) array or tensor, metres; points with NaN are dropped.
        radius: metres.
        labels, batch: (N,) integers, or None.
        min_size: smaller groups are dropped.

    Returns:
        (N,) group of every point in order of first appearance, -1 where dropped; an
        array for arrays, a tensor for tensors.
    """
    if isinstance(centers, Tensor):
        if on_gpu(centers):
            return device_group_points(centers, radius, labels, batch, min_size)
        group = group_points(
            centers.detach().cpu().numpy(),
            radius,
            _to_numpy(labels),
            _to_numpy(batch),
            min_size,
        )
        return torch.from_numpy(group).to(centers.device)
    points = np.asarray(centers, dtype=np.float64)
    num = len(points)
    finite = np.isfinite(points[:, 0] + points[:, 1] + points[:, 2])
    group = np.full(num, -1, dtype=np.int64)
    if not finite.any():
        return group
    kind = _kinds(num, labels, batch)
    if finite.all():
        group = _group(points, float(radius), kind)
    else:
        group[finite] = _group(points[finite], float(radius), kind[finite])
    if min_size > 1:
        size = np.bincount(group[finite])
        keep = size >= min_size
        renumber = np.where(keep, np.cumsum(keep) - 1, -1)
        group[finite] = renumber[group[finite]]
    return group


def _to_numpy(values: Any) -> np.ndarray | None:
    if values is None:
        return None
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _kinds(num: int, labels: Any, batch: Any) -> np.ndarray:
    """Number the distinct pairs of label and batch."""
    kind = np.zeros(num, dtype=np.int64)
    if labels is None and batch is None:
        return kind
    for values in (labels, batch):
        if values is not None:
            _, index = np.unique(np.asarray(values), return_inverse=True)
            kind = kind * (index.max(initial=0) + 1) + index
    return np.unique(kind, return_inverse=True)[1].reshape(-1)


def _group(points: np.ndarray, radius: float, kind: np.ndarray) -> np.ndarray:
    # The diagonal of a cell is below the radius, with room for rounding.
    side = radius / np.sqrt(3.0) * (1 - 1e-9)
    columns = [column - column.min() for column in points.T]
    key = kind
    for column in columns:
        cell = (column / side).astype(np.int64)
        if (int(key.max()) + 1) * (int(cell.max()) + 1) > _LARGEST_KEY:
            # Ranks of what there is: no more than points, whatever the extent.
            key, cell = (np.unique(x, return_inverse=True)[1] for x in (key, cell))
        key = key * (cell.max() + 1) + cell
    order = np.argsort(key, kind="stable")
    ordered = key.take(order)
    start = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    start = np.concatenate([[0], start, [len(order)]])
    num_cells = len(start) - 1
    size = np.diff(start)
    index = np.empty(len(order), dtype=np.int64)
    index[order] = np.repeat(np.arange(num_cells), size)

    # Representatives: the real point nearest to each cell's mean, whose links are
    # certain; then the pairs of cells that might still be linked.
    gap = np.zeros(len(order))
    for column in columns:
        column = column.take(order)
        mean = np.add.reduceat(column, start[:-1]) / size
        gap += np.square(column - np.repeat(mean, size))
    least = np.flatnonzero(gap == np.repeat(np.minimum.reduceat(gap, start[:-1]), size))
    representative = order[least[np.searchsorted(least, start[:-1])]]
    # Kinds in separate layers far apart, so that one tree serves all.
    span = max(column.max() for column in columns) + 4 * radius
    seeds = [column[representative] for column in columns]
    seeds = np.column_stack([*seeds, kind[representative] * span])
    tree = cKDTree(seeds)
    near = tree.query_pairs(radius * (1 - 1e-9), output_type="ndarray")
    cell_group = _components(near[:, 0], near[:, 1], num_cells)
    # Points of two cells can be linked only if the cells' seeds are within a radius
    # and two cell diagonals; groups already joined need no test.
    reach = tree.query_pairs(3 * radius, output_type="ndarray")
    reach = reach[cell_group[reach[:, 0]] != cell_group[reach[:, 1]]]
    cell_kind = kind[representative]
    reach = reach[cell_kind[reach[:, 0]] == cell_kind[reach[:, 1]]]
    linked = _linked_cells(points, order, start, reach, radius)
    edges = np.concatenate([near, reach[linked]])
    label = _components(edges[:, 0], edges[:, 1], num_cells)
    # Numbered by their first point, which is the first of one of their cells.
    first = np.full(label.max() + 1, len(points))
    np.minimum.at(first, label, order[start[:-1]])
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[label].take(index)


def _linked_cells(points, order, start, pairs, radius) -> np.ndarray:
    """Return for each pair of cells whether two of their points are within radius.

    Works on all (point of one, point of the other) combinations of a chunk of pairs
    at once; pairs of dense cells are searched by a tree.
    """
    linked = np.zeros(len(pairs), dtype=bool)
    if not len(pairs):
        return linked
    size = np.diff(start)
    work = size[pairs[:, 0]] * size[pairs[:, 1]]
    heavy = work > 100_000
    for row in np.flatnonzero(heavy):
        a, b = (points[order[start[c] : start[c + 1]]] for c in pairs[row])
        distance, nearest = cKDTree(a).query(b)
        closest = distance.argmin()
        gap = np.square(a[nearest[closest]] - b[closest]).sum()
        linked[row] = gap < radius * radius
    light = np.flatnonzero(~heavy)
    chunk = np.cumsum(work[light]) // 4_000_000
    for number in np.unique(chunk):
        rows = light[chunk == number]
        a, b, count = pairs[rows, 0], pairs[rows, 1], work[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        inner = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        first = order[start[a][owner] + inner // size[b][owner]]
        second = order[start[b][owner] + inner % size[b][owner]]
        close = np.square(points[first] - points[second]).sum(1) < radius * radius
        linked[rows] = np.bincount(owner, close, len(rows)) > 0
    return linked
