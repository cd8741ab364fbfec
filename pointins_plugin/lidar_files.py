"""Raw LiDAR scans and their labels, as the benchmarks publish them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pointins_plugin.errors import UserError


def read_points(path: str | Path, columns: int) -> np.ndarray:
    """Read a ``.bin`` of float32 rows.

    Args:
        path: the file.
        columns: of a row: 4 for KITTI, 5 for nuScenes; x, y, z (metres) come first.

    Returns:
        (N, columns) float32, at least two rows, all finite.

    Raises:
        UserError: the file is missing, cut off, empty or holds NaN or inf.
    """
    values = _read(path, np.dtype("<f4"))
    if len(values) % columns:
        raise UserError(
            f"scan {path} is cut off: {len(values)} numbers do not make rows of "
            f"{columns}; get it anew"
        )
    points = values.reshape(-1, columns)
    if len(points) < 2:
        raise UserError(f"scan {path} has {len(points)} points; leave it out")
    bad = ~np.isfinite(points).all(1)
    if bad.any():
        raise UserError(
            f"scan {path} has {int(bad.sum())} of {len(points)} points with NaN or "
            "inf; take these rows out of it and of its labels"
        )
    return points


def read_labels(path: str | Path, dtype: type, num_points: int) -> np.ndarray:
    """Read a file of one label a point.

    Raises:
        UserError: the file is missing, cut off, or its scan has another length.
    """
    labels = _read(path, np.dtype(dtype).newbyteorder("<"))
    check_length(path, len(labels), num_points)
    return labels


def check_length(path: str | Path, found: int, num_points: int) -> None:
    """Raise a UserError unless a label file has as many rows as its scan."""
    if found != num_points:
        raise UserError(
            f"labels {path} have {found} rows, but their scan has {num_points} points; "
            "get both anew"
        )


def map_classes(
    raw: np.ndarray, learning_map: Mapping[int, int], path: str | Path
) -> np.ndarray:
    """Return the training class (N,) int32 of raw class ids (N,).

    Raises:
        UserError: an id that the map does not name.
    """
    size = max(learning_map) + 1
    table = np.full(size, np.iinfo(np.int32).min, np.int32)
    for key, value in learning_map.items():
        table[key] = value
    known = raw < size
    if not known.all():
        _unknown(raw[~known][0], path)
    classes = table[raw]
    strange = classes == np.iinfo(np.int32).min
    if strange.any():
        _unknown(raw[strange][0], path)
    return classes


def _unknown(value: int, path: str | Path) -> None:
    raise UserError(
        f"labels {path} hold class id {int(value)}, which the data set does not "
        "define; get them anew"
    )


def _read(path: str | Path, dtype: np.dtype) -> np.ndarray:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); get it anew, or leave "
            "its scan out"
        ) from None
    if len(data) % dtype.itemsize:
        raise UserError(
            f"{path} is cut off: {len(data)} bytes are no whole number of "
            f"{dtype.itemsize}-byte values; get it anew"
        )
    # a copy: what is read may be changed
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
