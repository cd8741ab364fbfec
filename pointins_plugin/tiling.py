"""Clouds of any size in parts: tiles that overlap, and blocks that do not."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pointins_plugin.errors import UserError


@dataclass(frozen=True)
class Tile:
    """A part of a cloud.

    Attributes:
        core: points that are this tile's own, and of no other.
        halo: points around them, which are the core of others.
    """

    core: np.ndarray
    halo: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """All points, the core first."""
        return np.concatenate([self.core, self.halo])


def tiles(coord: np.ndarray, max_points: int, overlap: float) -> Iterator[Tile]:
    """Cut a cloud into boxes of about equal numbers of points, with a margin around.

    A box is halved along its longest side until it and its margin hold no more than
    ``max_points``, or the box itself no more than half of them; of a margin too dense
    even then the points nearest to the box stay. A cloud that is small enough is one
    tile, in its own order.

    Args:
        coord: (N, 3) metres.
        max_points: most points of a tile, at least 2.
        overlap: width of the margin, metres.

    Raises:
        UserError: a limit below 2 points, or a negative overlap.
    """
    if max_points < 2 or overlap < 0:
        raise UserError(
            f"tiles of {max_points} points with {overlap} m overlap: give at least 2 "
            "points and an overlap of 0 or more"
        )
    everything = np.arange(len(coord))
    low, high = np.full(3, -np.inf), np.full(3, np.inf)
    if len(coord):
        yield from _split(
            coord, everything, everything[:0], low, high, max_points, overlap
        )


def blocks(coord: np.ndarray, side: float, max_points: int) -> Iterator[np.ndarray]:
    """Cut a cloud into boxes no wider than a side, about equal in points.

    A box is halved along its longest side while that is too long or it holds too many
    points.

    Args:
        coord: (N, 3) metres.
        side: most that a box is wide, metres; inf for no limit.
        max_points: most points of a box, at least 1.

    Yields:
        The rows of a box; a cloud that needs no cut is one, in its own order.

    Raises:
        UserError: a side that is not above 0, or no point allowed.
    """
    if not side > 0 or max_points < 1:
        raise UserError(
            f"blocks of {max_points} points and {side} m: give at least 1 point and a "
            "side above 0"
        )
    if len(coord):
        yield from _halve(coord, np.arange(len(coord)), side, max_points)


def _halve(coord, rows, side, max_points) -> Iterator[np.ndarray]:
    points = coord[rows]
    extent = np.ptp(points, axis=0)
    axis = int(np.argmax(extent))
    if len(rows) <= max_points and extent[axis] <= side:
        yield rows
        return
    half = len(rows) // 2
    order = np.argpartition(points[:, axis], half)
    yield from _halve(coord, rows[order[:half]], side, max_points)
    yield from _halve(coord, rows[order[half:]], side, max_points)


def _split(coord, core, near, low, high, max_points, overlap) -> Iterator[Tile]:
    """Yield the tiles of a box; ``near`` holds all points around it."""
    halo = _within(coord, near, low - overlap, high + overlap)
    small = len(core) + len(halo) <= max_points
    if not small and len(core) <= max_points // 2:
        halo = _nearest(coord, halo, low, high, max_points - len(core))
        small = True
    if small:
        yield Tile(core, halo)
        return
    points = coord[core]
    axis = int(np.argmax(np.ptp(points, axis=0)))
    order = np.argpartition(points[:, axis], len(core) // 2)
    left, right = core[order[: len(core) // 2]], core[order[len(core) // 2 :]]
    middle = float(points[order[len(core) // 2], axis])
    for own, other, is_left in ((left, right, True), (right, left, False)):
        box_low, box_high = low.copy(), high.copy()
        if is_left:
            box_high[axis] = middle
        else:
            box_low[axis] = middle
        around = np.concatenate([other, halo])
        yield from _split(coord, own, around, box_low, box_high, max_points, overlap)


def _within(coord, rows, low, high) -> np.ndarray:
    points = coord[rows]
    inside = np.ones(len(rows), bool)
    for axis in range(3):
        if np.isfinite(low[axis]):
            inside &= points[:, axis] >= low[axis]
        if np.isfinite(high[axis]):
            inside &= points[:, axis] <= high[axis]
    return rows[inside]


def _nearest(coord, rows, low, high, number) -> np.ndarray:
    points = coord[rows]
    beyond = np.maximum(np.maximum(low - points, points - high), 0)
    return rows[np.argpartition(np.square(beyond).sum(1), number - 1)[:number]]
