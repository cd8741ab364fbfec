"""Space-filling curves: integer cells to positions along a curve."""

import torch
from torch import Tensor

ORDERS = ("z", "z-trans", "hilbert", "hilbert-trans")

# Shifts and masks that leave two zero bits between the low 21 bits of a word.
_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


@torch.no_grad()
def encode(
    grid_coord: Tensor, batch: Tensor | None = None, depth: int = 16, order: str = "z"
) -> Tensor:
    """Return the position (N,) int64 of cells along a space-filling curve.

    Args:
        grid_coord: (N, 3) non-negative integers below ``2 ** depth``.
        batch: (N,) cloud of every cell, placed above the curve's bits.
        depth: bits per axis.
        order: ``"z"``, ``"hilbert"`` or either with ``"-trans"`` (x and y swapped).
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, found {order!r}")
    x, y, z = grid_coord.long().unbind(dim=1)
    if order.endswith("-trans"):
        x, y = y, x
    code = _hilbert(x, y, z, depth) if order.startswith("hilbert") else _morton(x, y, z)
    return code if batch is None else batch.long() << (3 * depth) | code


def _spread(value: Tensor) -> Tensor:
    for shift, mask in _SPREAD:
        value = (value | value << shift) & mask
    return value


def _morton(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return _spread(x) << 2 | _spread(y) << 1 | _spread(z)


def _hilbert(x: Tensor, y: Tensor, z: Tensor, depth: int) -> Tensor:
    """Skilling's transform (2004): undo the curve's rotations, then a Gray code."""
    axes = [x, y, z]
    for bit in range(depth - 1, -1, -1):
        low = (1 << bit) - 1
        for axis in range(3):
            is_set = (axes[axis] >> bit) & 1
            swap = (axes[0] ^ axes[axis]) & low & (is_set - 1)
            axes[axis] = axes[axis] ^ swap
            axes[0] = axes[0] ^ swap ^ (low & -is_set)
    gray = _morton(*axes)
    shift = 1
    while shift < 3 * depth:
        gray = gray ^ gray >> shift
        shift *= 2
    return gray
