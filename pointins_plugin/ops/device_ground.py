"""The ground of all clouds of a batch at once, on the device they lie on."""

import torch
from torch import Tensor
from torch.nn import functional

from pointins_plugin.errors import UserError
from pointins_plugin.ops.segments import segment_index

_AT_ONCE = 1 << 24  # distances between cells that are held at a time
_MOST_CELLS = 1 << 26  # of a grid: a few GB, 8 km square in cells of 1 m


@torch.no_grad()
def device_ground_mask(
    coord: Tensor,
    offset: Tensor,
    height: float = 0.3,
    cell: float = 1.0,
    window: float = 15.0,
) -> Tensor:
    """Return the points near the ground of their cloud, without leaving a GPU.

    The filter of ``ops.ground.ground_points`` on the grids of all clouds, in float64 as
    there: the same points, but for what rounding decides. A GPU is waited for once a
    call, however many clouds there are: for the size of the largest grid.

    Args:
        coord: (N, 3) metres, z up, sorted by cloud.
        offset: (B,) cumulative counts.
        height, cell, window: metres, see ``ops.ground.ground_points``.

    Returns:
        (N,) bool.

    Raises:
        UserError: points too far apart for a grid.
    """
    if not len(coord) or not len(offset):
        return torch.zeros(len(coord), dtype=torch.bool, device=coord.device)
    points, num = coord.double(), len(offset)
    cloud = segment_index(offset, len(coord))
    rows = cloud[:, None].expand(-1, 2)
    corner = torch.full_like(points[:1, :2], torch.inf).repeat(num, 1)
    corner.scatter_reduce_(0, rows, points[:, :2], "amin")
    place = ((points[:, :2] - corner[cloud]) / cell).floor().long()
    extent = torch.zeros_like(corner, dtype=torch.long)
    extent.scatter_reduce_(0, rows, place + 1, "amax")
    shape = num, *extent.amax(0).tolist()
    check_grid(*shape[1:], cell)
    index = (cloud * shape[1] + place[:, 0]) * shape[2] + place[:, 1]
    lowest = torch.full(shape, torch.inf, dtype=points.dtype, device=points.device)
    lowest.view(-1).scatter_reduce_(0, index, points[:, 2], "amin")
    slope = _lower_plane(lowest)
    height_left = _fill(lowest - slope)
    x, y = _places(lowest)
    inside = (x < extent[:, 0, None, None]) & (y < extent[:, 1, None, None])
    size = 2 * int(window / cell / 2) + 1
    eroded = -_largest(torch.where(inside, -height_left, -torch.inf), size)
    opened = _largest(torch.where(inside, eroded, -torch.inf), size)
    return points[:, 2] <= (slope + opened).view(-1)[index] + height


def check_grid(width: float, depth: float, cell: float) -> None:
    """Refuse a grid of ground that memory would not hold.

    Args:
        width, depth: cells along x and y.
        cell: edge of a cell, metres.

    Raises:
        UserError: there are too many.
    """
    if width * depth > _MOST_CELLS:
        raise UserError(
            f"ground: the points span {width * cell:,.0f} x {depth * cell:,.0f} m, "
            f"too wide for cells of {cell:g} m; take out stray points or crop the cloud"
        )


def _places(grid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices (W, 1) and (H,) of the cells of grids (B, W, H)."""
    x = torch.arange(grid.shape[1], device=grid.device)
    return x[:, None], torch.arange(grid.shape[2], device=grid.device)


def _largest(grid: Tensor, size: int) -> Tensor:
    """Return the largest of the square around every cell, as far as it is there."""
    for kernel in ((size, 1), (1, size)):
        padding = kernel[0] // 2, kernel[1] // 2
        grid = functional.max_pool2d(grid, kernel, stride=1, padding=padding)
    return grid


def _fill(grid: Tensor) -> Tensor:
    """Give cells that are infinite the value of the nearest that is not.

    Exact in two steps: the nearest along x, then of these along y. Of several at the
    same distance it is that of SciPy's transform.
    """
    x, y = _places(grid)
    seen = torch.isfinite(grid)
    none = -4 * sum(grid.shape)  # further away than any
    before = torch.where(seen, x, none).cummax(1).values
    after = -torch.where(seen, -x, none).flip(1).cummax(1).values.flip(1)
    row = torch.where(x - before <= after - x, before, after)
    gap = (row - x).square()
    nearest = []
    step = max(1, _AT_ONCE // grid.numel())
    for columns in y.split(step):
        far = (columns[:, None] - y).square() + gap[:, :, None]
        nearest.append(far.argmin(3))
    column = torch.cat(nearest, 2)
    row = row.clamp(0, grid.shape[1] - 1).gather(2, column)
    found = (row * grid.shape[2] + column).flatten(1)
    return grid.flatten(1).gather(1, found).view(grid.shape)


def _lower_plane(lowest: Tensor, rounds: int = 10) -> Tensor:
    """Return heights like ``lowest`` of planes through the lower half of the cells."""
    seen = torch.isfinite(lowest).flatten(1)
    count = seen.sum(1, keepdim=True)
    target = torch.where(seen, lowest.flatten(1), 0)
    x, y = (
        values.expand(lowest.shape[1:]).reshape(1, -1).double()
        for values in _places(lowest)
    )
    middle = (count - 1).clamp(min=0) // 2
    kept, plane = seen, target
    for _ in range(rounds):
        plane = _fit(kept, x, y, target)
        above = target - plane
        ranked = torch.where(seen, above, torch.inf).sort(1).values
        kept = seen & (above <= ranked.gather(1, middle))
    return plane.view(lowest.shape)


def _fit(kept: Tensor, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the heights (B, C) of the planes that fit the cells kept (B, C)."""
    weight = kept.double()
    total = weight.sum(1, keepdim=True).clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return (weight * values).sum(1, keepdim=True) / total

    x, y, level = x - mean(x), y - mean(y), mean(target)
    xx, xy, yy = mean(x * x), mean(x * y), mean(y * y)
    xt, yt = mean(x * target), mean(y * target)
    det, trace = xx * yy - xy * xy, xx + yy
    # Cells on one line leave the slope across it open: the least one is taken.
    line = det <= 1e-12 * trace * trace
    det = torch.where(line, trace.clamp(min=1e-12).square(), det)
    first = torch.where(line, xx * xt + xy * yt, yy * xt - xy * yt) / det
    second = torch.where(line, xy * xt + yy * yt, xx * yt - xy * xt) / det
    return level + first * x + second * y
