"""How many points predicted masks share with the true instances of a scene.

Labels are read once and become one small number a point, its code; masks are counted
by code: by runs where neighbours are alike, as in most scans, else point by point, or,
where that is faster, as bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from scipy import sparse

from ..errors import UserError

_MOST_POINTS = 1 << 20  # of masks that are counted together
_CHUNK = 1 << 15  # points that are read together
_LANES = 4  # counters of one code that take turns
_SMALL = 1 << 16  # labels below it are 16-bit: half of the work is waiting for memory


class Codes:
    """One number for every point: twice its true instance, plus one on void.

    The number of counted instances stands for none of them.

    Args:
        joint: (N,) rows of `table`.
        starts: where runs of one value in `joint` start; None if most are short.
        table: codes.
        num_instances: G.
    """

    def __init__(self, joint, starts, table, num_instances):
        self.joint, self.starts, self.table = joint, starts, table
        self.width = 2 * (num_instances + 1)

    def __len__(self) -> int:
        return len(self.joint)

    @property
    def points(self) -> np.ndarray:
        """The code of every point (N,)."""
        table = self.table.astype(np.uint16) if self.width < _SMALL else self.table
        return _gather(table, self.joint)

    @cached_property
    def lanes(self) -> np.ndarray:
        """The same plus a multiple of the width that differs between neighbours."""
        turns = np.arange(_LANES, dtype=np.int32) * self.width
        turns = np.tile(turns, _CHUNK // _LANES)
        found = _gather(self.table.astype(np.int32), self.joint)
        for start in range(0, len(found), _CHUNK):
            part = found[start : start + _CHUNK]
            part += turns[: len(part)]
        return found

    @cached_property
    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts (R + 1,) of runs of points, with the end, and the code of each."""
        return (
            np.append(self.starts, len(self.joint)),
            self.table[self.joint[self.starts]],
        )


def known(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return table[index], False outside the table."""
    padded = np.append(table, False)  # catches both ends
    outside = (index < 0) | (index >= len(table))
    return padded[np.where(outside, len(table), index).astype(np.int64)]


def true_instances(
    segment: np.ndarray, instance: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Codes]:
    """Return class and size per counted instance in order of id, and the points' codes.

    Args:
        segment: (N,) class of every point.
        instance: (N,) instance of every point, -1 for none.
        valid: (C,) classes that count; all others are void.

    Returns:
        (G,) classes, that of an instance's first point; (G,) points; codes.
    """
    if len(segment) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, Codes(empty, None, empty, 0)
    # Everything is said by how often an id meets a class.
    joint, ids, kinds = _joint(instance, segment)
    starts = _run_starts(joint) if _is_rare(joint[1:] != joint[:-1]) else None
    meetings = _histogram(joint, starts, len(ids) * len(kinds))
    meetings = meetings.reshape(len(ids), len(kinds))
    met = meetings > 0
    classes = kinds[met.argmax(1)]
    mixed = (met.sum(1) > 1) & (ids != -1)
    if mixed.any():
        points = np.flatnonzero(np.repeat(mixed, len(kinds))[joint])[::-1]
        # Written backwards, so that the first point of each instance is what stays.
        classes[joint[points] // len(kinds)] = segment[points]
    counted = (ids != -1) & met.any(1) & known(valid, classes)
    rank = np.where(counted, np.cumsum(counted) - 1, np.count_nonzero(counted))
    table = (2 * rank[:, None] + ~known(valid, kinds)).reshape(-1)
    codes = Codes(joint, starts, table, np.count_nonzero(counted))
    return classes[counted], meetings.sum(1)[counted], codes


def _joint(first: np.ndarray, second: np.ndarray):
    """Pairs of values as numbers (N,) `row * len(columns) + column`, rows, columns.

    Rows and columns are sorted tables of the values, which may hold absent ones.
    """
    first, rows = _places(first)
    second, columns = _places(second)
    dtype = np.uint16 if len(rows) * len(columns) <= _SMALL else np.int64
    joint = first.astype(dtype, copy=False)
    joint *= dtype(len(columns))
    joint += second.astype(dtype, copy=False)
    return joint, rows, columns


def _places(values: np.ndarray):
    """Places (N,), of 16 bits if few, in a sorted table that holds the values; it."""
    if values.dtype.kind not in "iu" or values.dtype == np.uint64:
        values = values.astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low < 2048:
        # What the cast cuts off is a multiple of 2^16, and the place is below it.
        places = values.astype(np.uint16)
        places -= np.uint16(low % _SMALL)
        return places, np.arange(low, high + 1)
    table, index = np.unique(values, return_inverse=True)
    return index.reshape(-1), table.astype(np.int64)


def _gather(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return table[index] for indices known to be in range."""
    found = np.empty(len(index), table.dtype)
    for start in range(0, len(index), _CHUNK):
        part = slice(start, start + _CHUNK)
        np.take(table, index[part], out=found[part], mode="clip")
    return found


def count_overlaps(
    masks, codes: Codes, gt_class: np.ndarray, classes: np.ndarray, name: str = "?"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points of each mask (K,), those on void (K,), those on instances (G, K).

    The last are counted at least for the instances of the mask's own class.

    Args:
        masks: (K, N) array or SciPy sparse matrix, or K arrays of point indices.
        codes, gt_class: from `true_instances`.
        classes: (K,) predicted.
        name: the scene's, for the message.

    Raises:
        UserError: masks of another number of points.
    """
    num_points = len(codes)
    if sparse.issparse(masks):
        if masks.shape[1] != num_points:
            raise _width_error(name, masks.shape[1], num_points)
        batches = _rows(_canonical(masks))
    elif isinstance(masks, list | tuple) and not _is_dense(masks, num_points):
        parts = (_indices(points, num_points, name) for points in masks)
        batches = _checked(_joined(parts), num_points, name)
    else:
        masks = _dense(masks, num_points, name)
        found = _overlaps_of_bits(masks, codes, gt_class, classes)
        if found is not None:
            return found
        # Truth values first: looking for what is not zero is slow on other types.
        rows = (mask if mask.dtype == bool else mask != 0 for mask in masks)
        batches = _joined(map(np.flatnonzero, rows))
    counts = [np.zeros((0, codes.width), dtype=np.int64)]
    counts += [_count(points, ends, codes) for points, ends in batches]
    counts = np.concatenate(counts)
    clean, void = counts[:, ::2], counts[:, 1::2]
    shared = clean[:, :-1] + void[:, :-1]
    return counts.sum(axis=1), void.sum(axis=1), shared.T


def _rows(masks) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points of some rows of a CSR matrix at a time, and where each row's begin."""
    ends = masks.indptr
    first = 0
    while first < len(ends) - 1:
        last = np.searchsorted(ends, ends[first] + _MOST_POINTS, side="right") - 1
        last = max(int(last), first + 1)
        part = ends[first : last + 1]
        yield masks.indices[part[0] : part[-1]], part - part[0]
        first = last


def _joined(parts: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points of some arrays at a time, and where each array's begin, with the end."""
    batch, size = [], 0
    for part in parts:
        if batch and size + len(part) > _MOST_POINTS:
            yield _one(batch)
            batch, size = [], 0
        batch.append(part)
        size += len(part)
    if batch:
        yield _one(batch)


def _one(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum([0, *map(len, parts)])
    if not ends[-1]:  # an empty list is an array of floats
        return np.zeros(0, dtype=np.int64), ends
    return np.concatenate([part for part in parts if len(part)]), ends


def _indices(points, num_points: int, name: str) -> np.ndarray:
    """The point indices of one mask as integers."""
    points = np.asarray(points).reshape(-1)
    if points.dtype == bool:  # a dense mask of another length
        raise _width_error(name, len(points), num_points)
    return points if points.dtype.kind in "iu" else points.astype(np.int64)


def _checked(batches, num_points: int, name: str):
    """The batches of index lists with each point of a mask named once."""
    for points, ends in batches:
        rising = np.ones(len(points) + 1, dtype=bool)
        np.greater(points[1:], points[:-1], out=rising[1:-1])
        rising[ends] = True
        if not rising.all():
            points, ends = _one([np.unique(p) for p in np.split(points, ends[1:-1])])
        filled = ends[:-1] < ends[1:]
        least, most = points[ends[:-1][filled]], points[ends[1:][filled] - 1]
        if len(least) and (least.min() < 0 or most.max() >= num_points):
            raise _width_error(name, int(most.max()) + 1, num_points)
        yield points, ends


def _dense(masks, num_points: int, name: str) -> np.ndarray:
    """The masks as a (K, N) array."""
    masks = np.asarray(masks)
    if masks.size == 0:
        return np.zeros((len(masks), num_points), dtype=bool)
    if masks.ndim != 2 or masks.shape[1] != num_points:
        raise _width_error(name, masks.shape[-1], num_points)
    return masks


def _canonical(masks):
    """The masks by rows, with each point named once and no stored zeros."""
    if masks.format != "csr":
        masks = masks.tocsr()
    if not masks.has_canonical_format:
        masks = masks.copy()
        masks.sum_duplicates()
    if not masks.data.all():
        masks = masks.copy()
        masks.eliminate_zeros()
    return masks


def _is_dense(masks, num_points: int) -> bool:
    """A list of boolean rows is a dense matrix, a list of indices is not."""
    return all(np.asarray(mask).dtype == bool for mask in masks) and all(
        len(mask) == num_points for mask in masks
    )


def _width_error(name, found, expected):
    return UserError(
        f"instance AP, {name}: masks cover {found} points, the labels {expected}; "
        "give masks over the labelled points"
    )


def _overlaps_of_bits(masks, codes, gt_class, classes):
    """The same from dense masks as bits, None where points are the faster way.

    A pass over bits for every pair of one class beats a pass over the points of masks
    unless there are many pairs, or the points lie in runs, which are found at once.
    """
    if not hasattr(np, "bitwise_count") or not len(masks):  # NumPy 1
        return None
    changes = np.count_nonzero(masks[0, 1:] != masks[0, :-1])
    if changes < 0.01 * len(codes):
        return None
    words = _packed(masks)
    size = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    pairs = np.count_nonzero(gt_class[:, None] == classes[None, :])
    if pairs * words.shape[1] > 4 * size.sum():
        return None
    code = codes.points
    void = _packed((code & 1).astype(bool))
    in_void = np.bitwise_count(words & void).sum(axis=1, dtype=np.int64)
    shared = np.zeros((len(gt_class), len(masks)), dtype=np.int64)
    rank = code >> 1
    for gt, kind in enumerate(gt_class):
        rows = np.flatnonzero(classes == kind)
        if len(rows):
            both = words[rows] & _packed(rank == gt)
            shared[gt, rows] = np.bitwise_count(both).sum(axis=1, dtype=np.int64)
    return size, in_void, shared


def _packed(values: np.ndarray) -> np.ndarray:
    """Truth values along the last axis as bits of uint64 words."""
    values = values if values.dtype == bool else values != 0
    packed = np.packbits(values, axis=-1)
    words = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8)), np.uint64)
    words.view(np.uint8)[..., : packed.shape[-1]] = packed
    return words


def _count(points, ends, codes):
    """Points per (mask, code); mask k owns points[ends[k]:ends[k + 1]]."""
    if codes.starts is not None:
        change = np.ones(len(points), dtype=bool)
        np.not_equal(points[1:] - points[:-1], 1, out=change[1:])
        if _is_rare(change):
            change[ends[:-1][ends[:-1] < len(points)]] = True
            return _count_runs(points, ends, np.flatnonzero(change), codes)
    num, width = len(ends) - 1, _LANES * codes.width
    if num * width > len(points):
        # Masks of few points, or very many instances: one number for both.
        row = np.repeat(np.arange(num) * codes.width, np.diff(ends))
        found = np.bincount(row + codes.points[points], minlength=num * codes.width)
        return found.reshape(num, codes.width)
    # Adding to one counter again and again waits for the addition before; that is why
    # counters of one code take turns. Equal entries of a sparse matrix are summed.
    entries = _gather(codes.lanes, points)
    ones = np.ones(len(points), dtype=np.int32)
    counts = sparse.csr_matrix((ones, entries, ends), shape=(num, width)).toarray()
    return counts.reshape(num, _LANES, codes.width).sum(axis=1, dtype=np.int64)


def _count_runs(points, ends, starts, codes):
    """The same where few of the points (`starts`) do not follow their neighbour."""
    num = len(ends) - 1
    row = np.repeat(np.arange(num), np.diff(np.searchsorted(starts, ends)))
    first = points[starts].astype(np.int64)
    last = first + np.diff(starts, append=len(points)) - 1
    edges, values = codes.runs
    run = np.searchsorted(edges, first, side="right") - 1
    pieces = np.searchsorted(edges, last, side="right") - run
    owner = np.repeat(np.arange(len(starts)), pieces)
    run = np.arange(len(owner)) + (run - np.cumsum(pieces) + pieces)[owner]
    shared = np.minimum(edges[run + 1], last[owner] + 1)
    shared -= np.maximum(edges[run], first[owner])
    place = row[owner] * codes.width + values[run]
    found = np.bincount(place, shared, num * codes.width)
    return found.astype(np.int64).reshape(num, codes.width)


def _histogram(values: np.ndarray, starts: np.ndarray | None, size: int) -> np.ndarray:
    """np.bincount of values below `size`, by runs where they are known."""
    if starts is not None:
        lengths = np.diff(starts, append=len(values))
        return np.bincount(values[starts], lengths, size).astype(np.int64)
    total = np.zeros(size, dtype=np.int64)
    step = max(_CHUNK, size)
    for start in range(0, len(values), step):
        total += np.bincount(values[start : start + step], minlength=size)
    return total


def _run_starts(values: np.ndarray) -> np.ndarray:
    return np.append(0, 1 + np.flatnonzero(values[1:] != values[:-1]))


def _is_rare(change: np.ndarray) -> bool:
    return 16 * np.count_nonzero(change) < len(change)
