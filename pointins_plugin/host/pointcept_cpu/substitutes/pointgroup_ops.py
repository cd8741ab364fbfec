"""PointGroup's ball query and breadth-first clustering."""

import itertools

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

__all__ = ["ballquery_batch_p", "bfs_cluster"]

# The original keeps no more neighbours of a point: the first by index.
_MAX_NEIGHBOURS = 1000
# Pairs looked at together: 24 bytes each.
_CHUNK = 1 << 22


@torch.no_grad()
def ballquery_batch_p(coords, batch_idxs, batch_offsets, radius, meanActive):
    """Find the points of the same cloud nearer than a radius, at most 1000 a point.

    Args:
        coords: (N, 3) float32. batch_idxs: (N,) ascending clouds.
        batch_offsets: (B + 1,) where clouds begin.
        radius: in the unit of the coordinates; at it is outside.
        meanActive: expected neighbours, unused.

    Returns:
        (E,) int32 neighbours in ascending order point by point, the point itself among
        them, and (N, 2) int32 where each point's begin and how many they are.
    """
    points = coords.detach().float().cpu().numpy()
    neighbours, counts = [np.empty(0, np.int64)], np.zeros(len(points), np.int64)
    bounds = batch_offsets.tolist()
    for first, last in itertools.pairwise(bounds):
        if first < last:
            found, count = _neighbours(points[first:last], radius)
            neighbours.append(found + first)
            counts[first:last] = count
    start = counts.cumsum() - counts
    idx = torch.from_numpy(np.concatenate(neighbours)).int()
    start_len = torch.from_numpy(np.stack([start, counts], axis=1)).int()
    return idx.to(coords.device), start_len.to(coords.device)


def _neighbours(points, radius):
    """Return the neighbours (E,) of one cloud's points and their numbers (N,)."""
    reach = radius * (1 + 1e-5)  # rounding is settled below, as the original does it
    tree = cKDTree(points)
    expected = tree.query_ball_point(points, reach, return_length=True)
    square = np.float32(radius) * np.float32(radius)
    found, counts = [], np.zeros(len(points), np.int64)
    cuts = np.searchsorted(expected.cumsum(), np.arange(_CHUNK, expected.sum(), _CHUNK))
    edges = np.unique([0, *(cuts + 1), len(points)])
    for first, last in itertools.pairwise(edges):
        part = cKDTree(points[first:last])
        pairs = part.sparse_distance_matrix(tree, reach, output_type="ndarray")
        query, point = pairs["i"], pairs["j"]
        step = points[first:last][query] - points[point]
        inside = (step[:, 0] ** 2 + step[:, 1] ** 2 + step[:, 2] ** 2) < square
        query, point = query[inside], point[inside]
        order = np.lexsort((point, query))
        query, point = query[order], point[order]
        count = np.bincount(query, minlength=last - first)
        rank = np.arange(len(query)) - (count.cumsum() - count)[query]
        found.append(point[rank < _MAX_NEIGHBOURS])
        counts[first:last] = np.minimum(count, _MAX_NEIGHBOURS)
    return np.concatenate(found), counts


@torch.no_grad()
def bfs_cluster(semantic_label, ball_query_idxs, start_len, threshold):
    """Join points of one class that neighbours connect, breadth first.

    Points are tried as seeds in order; a point belongs to the first cluster that
    reaches it. The cap on neighbours makes some connections one-way, so that this is
    not quite a connected component.

    Args:
        semantic_label: (N,) classes.
        ball_query_idxs, start_len: of ``ballquery_batch_p``.
        threshold: smaller clusters are dropped.

    Returns:
        (S, 2) int32 pairs of cluster and point, cluster by cluster in the order of the
        search, and (C + 1,) int32 where clusters begin.
    """
    label = semantic_label.cpu().numpy()
    count = start_len[:, 1].cpu().numpy().astype(np.int64)
    row = np.repeat(np.arange(len(label)), count)
    start = start_len[:, 0].cpu().numpy().astype(np.int64)
    place = np.repeat(start - (count.cumsum() - count), count) + np.arange(len(row))
    column = ball_query_idxs.cpu().numpy()[place]
    same = label[row] == label[column]
    row, column = row[same], column[same]
    bounds = np.concatenate([[0], np.bincount(row, minlength=len(label)).cumsum()])
    clusters = _search(bounds, column, threshold)
    sizes = [len(cluster) for cluster in clusters]
    pairs = torch.empty(sum(sizes), 2, dtype=torch.int32)
    if clusters:
        number = np.repeat(np.arange(len(clusters)), sizes)
        pairs[:, 0] = torch.from_numpy(number)
        pairs[:, 1] = torch.from_numpy(np.concatenate(clusters))
    return pairs, torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int32)


def _search(bounds, column, threshold):
    """Return the clusters of a graph in compressed rows, each in order of discovery."""
    number = len(bounds) - 1
    if number == 0:
        return []
    graph = sparse.csr_matrix(
        (np.ones(len(column), np.int8), column, bounds), shape=(number, number)
    )
    # What no direction connects needs no search if it is too small.
    _, part = connected_components(graph, directed=True, connection="weak")
    large = np.bincount(part)[part] >= threshold
    visited = ~large
    clusters = []
    for seed in np.flatnonzero(large):
        if visited[seed]:
            continue
        cluster = _reach(bounds, column, visited, seed)
        if len(cluster) >= threshold:
            clusters.append(cluster)
    return clusters


def _reach(bounds, column, visited, seed):
    """Visit what a seed reaches, level by level, in the order of a queue."""
    front = np.array([seed])
    visited[seed] = True
    levels = [front]
    while len(front):
        count = bounds[front + 1] - bounds[front]
        begin = np.repeat(bounds[front] - (count.cumsum() - count), count)
        near = column[begin + np.arange(len(begin))]
        near = near[~visited[near]]
        front = near[np.sort(np.unique(near, return_index=True)[1])]
        visited[front] = True
        if len(front):
            levels.append(front)
    return np.concatenate(levels)
