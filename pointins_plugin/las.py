"""LAS files of airborne and terrestrial scans; compressed ones (LAZ) through laspy."""

import struct
from pathlib import Path

import numpy as np

from pointins_plugin.errors import UserError

# byte of red in a record, by point format (ASPRS LAS 1.4, tables 7 to 17)
_COLOR = {2: 20, 3: 28, 5: 28, 7: 30, 8: 30, 10: 30}
_LEAST = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)  # bytes of a record, by format


def read_las(path: str | Path) -> dict[str, np.ndarray]:
    """Read the points of a LAS file, version 1.0 to 1.4.

    Args:
        path: a ``.las`` file; a ``.laz`` file needs ``pip install "pointins[laz]"``.

    Returns:
        ``coord`` (N, 3) float64 in the file's units, ``strength`` (N,) its intensity,
        0-65535, and ``color`` (N, 3) where the format has it, 0-255.

    Raises:
        UserError: no such file, or not a readable one.
    """
    path = Path(path)
    if path.suffix.lower() == ".laz":
        return _read_laz(path)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if data[:4].tobytes() != b"LASF" or len(data) < 227:
        raise UserError(f"{path} is no LAS file, or cut short")
    head = data[:375].tobytes().ljust(375, b"\0")
    minor = head[25]
    start, (kind, width, num) = (
        struct.unpack_from("<I", head, 96)[0],
        struct.unpack_from("<BHI", head, 104),
    )
    if kind & 0xC0:
        return _read_laz(path)  # compressed under the name of the other
    if minor >= 4:
        num = struct.unpack_from("<Q", head, 247)[0] or num
    if kind >= len(_LEAST) or width < _LEAST[kind]:
        raise UserError(
            f"{path} has points of format {kind} in {width} bytes, which LAS 1.4 does "
            "not define; save it again as LAS"
        )
    if start + num * width > len(data):
        raise UserError(
            f"{path} is cut short: its header promises {num} points; save it again"
        )
    rows = data[start : start + num * width].reshape(num, width)
    scale = np.array(struct.unpack_from("<3d", head, 131))
    origin = np.array(struct.unpack_from("<3d", head, 155))
    cloud = {
        "coord": _values(rows, 0, "<i4", 3) * scale + origin,
        "strength": _values(rows, 12, "<u2", 1)[:, 0].astype(np.float32),
    }
    if kind in _COLOR:
        color = _values(rows, _COLOR[kind], "<u2", 3)
        if color.any():
            cloud["color"] = eight_bits(color)
    return cloud


def _values(rows: np.ndarray, start: int, kind: str, count: int) -> np.ndarray:
    size = np.dtype(kind).itemsize * count
    return np.ascontiguousarray(rows[:, start : start + size]).view(kind)


def eight_bits(color: np.ndarray) -> np.ndarray:
    """Return colours in 0-255, whether written in 16 bits or, as by many, in 8."""
    if color.max(initial=0) > 255:
        return color.astype(np.float32) / 257
    return color.astype(np.uint8) if color.min(initial=0) >= 0 else color


def _read_laz(path: Path) -> dict[str, np.ndarray]:
    try:
        import laspy
    except ImportError:
        raise UserError(
            f'{path} is compressed, which needs laspy: pip install "pointins[laz]"'
        ) from None
    try:
        found = laspy.read(path)
        cloud = {
            "coord": np.asarray(found.xyz, np.float64),
            "strength": np.asarray(found.intensity, np.float32),
        }
        if "red" in found.point_format.dimension_names:
            color = np.stack([found.red, found.green, found.blue], 1)
            if color.any():
                cloud["color"] = eight_bits(color)
    except FileNotFoundError:
        raise UserError(f"cannot read {path}: no such file") from None
    except Exception as error:  # damaged bytes, or no backend for the compression
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason})") from None
    return cloud
