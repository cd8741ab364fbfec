"""Points grouped within a radius on the device they lie on."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pointins_plugin.ops.neighbour_components import edge_components

_REACH = 2  # cells that are further apart along an axis hold no linked points
_AT_ONCE = 1 << 22  # pairs of points whose distances are held at a time


class _Ranks(NamedTuple):
    """Keys (N,) in order, their ranks among the distinct ones, and whose they are."""

    keys: Tensor
    ranks: Tensor
    order: Tensor

    def of_points(self) -> Tensor:
        return torch.empty_like(self.ranks).scatter_(0, self.order, self.ranks)

    def find(self, keys: Tensor) -> Tensor:
        """Return the ranks of some keys, -1 where there is none."""
        place = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == keys, self.ranks[place], -1)


class _Cells(NamedTuple):
    """Points by cell; cells are so small that all points of one are connected."""

    index: Tensor  # (N,) cell of every point
    points: Tensor  # (N, 3) ordered by cell
    start: Tensor  # (C,) first of its points in that order
    size: Tensor  # (C,)
    pairs: Tensor  # (2, P) cells whose bounding boxes are within the radius
    middle: Tensor  # (C, 3) the point nearest to the middle of the box


@torch.no_grad()
def device_group_points(
    centers: Tensor,
    radius: float,
    labels: Any = None,
    batch: Any = None,
    min_size: int = 1,
) -> Tensor:
    """Group points that are nearer than a radius, transitively, without leaving a GPU.

    The partition and the numbers of ``ops.components.group_points``, computed in
    float64 as there. Cells whose boxes are within the radius are joined by one point
    of each where these are near enough; all points of the pairs of cells that are then
    not in one component are compared, a bounded number at a time, which is quadratic
    in the points of the two cells only.

    A GPU is waited for four times a call, however many points there are, each time for
    the length of what follows: the occupied cells, the pairs of cells within reach,
    those of them that no one point decides, and the pairs of points in these.

    Args:
        centers: (N, 3), metres; points with NaN are dropped.
        radius: metres.
        labels, batch: (N,) integers, or None.
        min_size: smaller groups are dropped.

    Returns:
        (N,) long, group of every point in order of first appearance, -1 where dropped.

    Source: cells as in Gan and Tao (2015), "DBSCAN Revisited".
    """
    points = centers.detach().double()
    num = len(points)
    if num == 0:
        return torch.zeros(0, dtype=torch.long, device=points.device)
    finite = torch.isfinite(points[:, 0] + points[:, 1] + points[:, 2])
    # All that are dropped share a kind that has no neighbours.
    kind = torch.where(finite, _kinds(points, labels, batch), num)
    cells = _cells(points, finite, kind, float(radius))
    first, second = cells.pairs
    gap = _square(cells.middle[first] - cells.middle[second])
    certain = gap < radius * radius
    joined = edge_components(
        first, torch.where(certain, second, first), len(cells.start)
    )
    open_pairs = torch.nonzero(joined[first] != joined[second])[:, 0]
    first, second = first[open_pairs], second[open_pairs]
    linked = _linked(cells, first, second, float(radius))
    first, second = joined[first], joined[second]
    whole = edge_components(first, torch.where(linked, second, first), len(cells.start))
    return _numbered(whole[joined][cells.index], finite, min_size)


def _square(vector: Tensor) -> Tensor:
    # Spelled out: a sum over three may round otherwise than on the CPU.
    x, y, z = vector.unbind(-1)
    return x * x + y * y + z * z


def _rank(keys: Tensor) -> _Ranks:
    keys, order = torch.sort(keys, stable=True)
    ranks = torch.zeros_like(keys)
    ranks[1:] = torch.cumsum(keys[1:] != keys[:-1], 0)
    return _Ranks(keys, ranks, order)


def _kinds(points: Tensor, labels: Any, batch: Any) -> Tensor:
    """Number the distinct pairs of label and batch."""
    kind = torch.zeros(len(points), dtype=torch.long, device=points.device)
    for values in (labels, batch):
        if values is not None:
            values = torch.as_tensor(values, device=points.device).long()
            ranks = _rank(values).of_points()
            kind = _rank(kind * len(points) + ranks).of_points()
    return kind


def _cells(points: Tensor, finite: Tensor, kind: Tensor, radius: float) -> _Cells:
    # The diagonal of a cell is below the radius, with room for rounding.
    side = radius / 3**0.5 * (1 - 1e-9)
    inside = finite[:, None]
    least = torch.where(inside, points, torch.inf).amin(0)
    place = torch.where(inside, (points - least) / side, 0).long() + _REACH
    width = place.amax(0) + _REACH + 1
    # Axis by axis: keys of all three at once would not fit in 64 bits.
    ranks, above, parent = [], [], kind
    for axis in range(3):
        above.append(parent)
        ranks.append(_rank(parent * width[axis] + place[:, axis]))
        parent = ranks[-1].of_points()
    index, keys, order = parent, ranks[-1].keys, ranks[-1].order
    fresh = torch.ones_like(finite)
    fresh[1:] = keys[1:] != keys[:-1]
    start = torch.nonzero(fresh)[:, 0]
    size = torch.diff(start, append=torch.full_like(start[:1], len(points)))
    rows = index[:, None].expand_as(points)
    box = torch.empty(2, len(start), 3, dtype=points.dtype, device=points.device)
    box[0].scatter_reduce_(0, rows, points, "amin", include_self=False)
    box[1].scatter_reduce_(0, rows, points, "amax", include_self=False)
    head = order[start]
    pairs = _pairs(kind[head], place[head], width, ranks, box, radius)
    gap = _square(points - box.mean(0)[index])
    nearest = torch.full_like(gap[: len(start)], torch.inf)
    nearest.scatter_reduce_(0, index, gap, "amin")
    number = torch.arange(len(points), device=points.device)
    candidate = torch.where(gap == nearest[index], number, len(points) - 1)
    middle = torch.full_like(start, len(points) - 1)
    middle.scatter_reduce_(0, index, candidate, "amin")
    return _Cells(index, points[order], start, size, pairs, points[middle])


def _pairs(
    kind: Tensor,
    place: Tensor,
    width: Tensor,
    ranks: list[_Ranks],
    box: Tensor,
    radius: float,
) -> Tensor:
    """Return the pairs (2, P) of cells of a kind whose boxes are within the radius."""
    low, high = box
    x, y, z = place.unbind(1)
    columns = []
    for dx in range(_REACH + 1):
        plane = ranks[0].find(kind * width[0] + x + dx)
        for dy in range(-_REACH if dx else 0, _REACH + 1):
            # Half of the surroundings: every pair once.
            least = -_REACH if dx or dy else 1
            step = torch.arange(least, _REACH + 1, device=place.device)
            row = ranks[1].find(plane * width[1] + y + dy)
            cell = ranks[2].find((row * width[2] + z)[:, None] + step)
            other = cell.clamp(min=0)
            gap = torch.maximum(low[other] - high[:, None], low[:, None] - high[other])
            near = _square(gap.clamp_(min=0)) < radius * radius
            columns.append(torch.where(near, cell, -1).int())
    neighbour = torch.cat(columns, 1)
    first, column = torch.nonzero(neighbour >= 0).unbind(1)
    return torch.stack([first, neighbour[first, column].long()])


def _linked(cells: _Cells, first: Tensor, second: Tensor, radius: float) -> Tensor:
    """Return for pairs of cells whether two of their points are within the radius."""
    num = len(first)
    linked = torch.zeros(num + 1, dtype=torch.bool, device=first.device)
    if num == 0:
        return linked[:0]
    size = cells.size[second]
    work = cells.size[first] * size
    end = torch.cumsum(work, 0)
    begin = end - work
    total = int(end[-1])
    for chunk in range(0, total, _AT_ONCE):
        last = min(chunk + _AT_ONCE, total)
        item = torch.arange(chunk, last, device=first.device)
        pair = torch.searchsorted(end, item, right=True)
        item -= begin[pair]
        a = cells.start[first[pair]] + item // size[pair]
        b = cells.start[second[pair]] + item % size[pair]
        close = _square(cells.points[a] - cells.points[b]) < radius * radius
        linked.scatter_(0, torch.where(close, pair, num), True)
    return linked[:num]


def _numbered(label: Tensor, finite: Tensor, min_size: int) -> Tensor:
    """Number groups by first appearance, without those that are dropped."""
    index = torch.arange(len(label), device=label.device)
    first = torch.full_like(label, len(label) - 1)
    first = first.scatter_reduce_(0, label, index, "amin")[label]
    size = torch.zeros_like(label).scatter_add_(0, label, torch.ones_like(label))
    kept = finite & (size[label] >= min_size)
    number = torch.cumsum(kept & (first == index), 0) - 1
    return torch.where(kept, number[first], -1)
