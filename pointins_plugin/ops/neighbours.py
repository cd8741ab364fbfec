"""Nearest neighbours within the clouds of a batch."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pointins_plugin.ops.device import on_gpu
from pointins_plugin.ops.segments import segment_ends

# Rows of a distance matrix that are formed at a time on a GPU (elements).
_CHUNK = 1 << 26


def nearest(
    query: Tensor,
    reference: Tensor,
    query_offset: Tensor | Sequence[int],
    reference_offset: Tensor | Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Find for every query point the nearest reference point of the same cloud.

    Args:
        query: (M, 3); reference: (N, 3), metres.
        query_offset, reference_offset: (B,) cumulative counts of the same clouds;
            numbers, or tensors, for which a GPU waits.

    Returns:
        (M,) long indices into ``reference`` and (M,) distances; -1 and inf where the
        cloud has no reference point. KD-trees on CPU, exact distances by chunks on
        CUDA.
    """
    index = torch.full((len(query),), -1, dtype=torch.long, device=query.device)
    distance = query.new_full((len(query),), torch.inf)
    for rows, columns in zip(
        _spans(query_offset), _spans(reference_offset), strict=True
    ):
        found = _search(query[rows], reference[columns], 1)
        if found is not None:
            index[rows] = found[0][:, 0] + columns.start
            distance[rows] = found[1][:, 0]
    return index, distance


def pairs_within(
    query: Tensor,
    reference: Tensor,
    query_offset: Tensor,
    reference_offset: Tensor,
    radius: float,
    k: int,
) -> Tensor:
    """Pair every query point with its nearest reference points of the same cloud.

    Args:
        query: (M, 3); reference: (N, 3), metres.
        query_offset, reference_offset: (B,) cumulative counts of the same clouds.
        radius: pairs are closer than this, metres.
        k: largest number of pairs of a query point, the nearest.

    Returns:
        (P, 2) long (query, reference), by query point, nearest first.
    """
    pairs = [torch.zeros(0, 2, dtype=torch.long, device=query.device)]
    for rows, columns in zip(
        _spans(query_offset), _spans(reference_offset), strict=True
    ):
        size = columns.stop - columns.start
        found = _search(query[rows], reference[columns], min(k, size))
        if found is not None:
            index, distance = found
            row, place = torch.nonzero(distance < radius).unbind(1)
            first, second = row + rows.start, index[row, place] + columns.start
            pairs.append(torch.stack([first, second], dim=1))
    return torch.cat(pairs)


def knn(coord: Tensor, k: int, offset: Tensor | Sequence[int]) -> Tensor:
    """Find the k nearest other points of every point within its cloud.

    Args:
        coord: (N, 3) metres.
        k: neighbours of a point, itself not counted.
        offset: (B,) cumulative counts; numbers, or a tensor, for which a GPU waits.

    Returns:
        (N, k) long indices, nearest first; -1 fills up clouds of fewer than k + 1
        points. Of points at equal distance any may be named.
    """
    index = torch.full((len(coord), k), -1, dtype=torch.long, device=coord.device)
    for rows in _spans(offset):
        size = rows.stop - rows.start
        wanted = min(k + 1, size)
        if wanted < 2:
            continue
        found = _search(coord[rows], coord[rows], wanted)[0]
        # A point is its own nearest neighbour, unless it has duplicates: then it may
        # stand anywhere or be missing, and the farthest gives way.
        own = torch.arange(size, device=coord.device)[:, None]
        is_self = found == own
        is_self[:, -1] |= ~is_self.any(dim=1)
        own = is_self.to(torch.uint8).argmax(dim=1, keepdim=True)
        column = torch.arange(wanted - 1, device=coord.device)
        others = found.gather(1, column + (column >= own))
        index[rows, : wanted - 1] = others + rows.start
    return index


def _spans(offset: Tensor | Sequence[int]) -> list[slice]:
    ends = segment_ends(offset)
    return [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _search(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """Return indices and distances (M, k), or None where there is nothing to find."""
    if not len(query) or not len(reference):
        return None
    if on_gpu(query):
        rows = max(1, _CHUNK // len(reference))
        parts = [
            torch.cdist(
                part, reference, compute_mode="donot_use_mm_for_euclid_dist"
            ).topk(k, largest=False)
            for part in query.split(rows)
        ]
        return torch.cat([p.indices for p in parts]), torch.cat(
            [p.values for p in parts]
        )
    points = reference.detach().double().numpy()
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    distance, index = tree.query(
        query.detach().double().numpy(),
        k=[*range(1, k + 1)],
        workers=torch.get_num_threads(),
    )
    return (
        torch.from_numpy(index.astype(np.int64)),
        torch.from_numpy(distance).to(query.dtype),
    )
