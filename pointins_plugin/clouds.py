"""Point clouds in the files people have: one reader a format, one kind of answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.las import eight_bits, read_las
from pointins_plugin.pcd import read_pcd
from pointins_plugin.ply import read_ply
from pointins_plugin.scenes import form_problem, read_array, read_scene, strength_range
from pointins_plugin.text_table import parse_table

SUFFIXES = (".ply", ".pcd", ".npy", ".npz", ".las", ".laz", ".bin", ".txt", ".xyz")
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "ft": 0.3048, "in": 0.0254, "km": 1000.0}

_ARRAYS = ("coord", "color", "normal", "strength")
# Columns by the names that writers give them; "_" is any other.
_NAMES = {
    "coord": (("x", "y", "z"),),
    "color": (("red", "green", "blue"), ("r", "g", "b")),
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")),
    "strength": (
        ("intensity",),
        ("strength",),
        ("reflectance",),
        ("scalar_intensity",),
        ("i",),
    ),
}
_XYZ, _RGB, _NORMAL = "x y z".split(), "red green blue".split(), "nx ny nz".split()
_BARE = (".npy", ".bin", ".txt", ".xyz")  # formats of columns without names
# What bare columns mean, by their number.
_COLUMNS = {
    3: _XYZ,
    4: [*_XYZ, "intensity"],
    6: [*_XYZ, *_RGB],
    7: [*_XYZ, *_RGB, "_"],
    9: [*_XYZ, *_RGB, *_NORMAL],
}
# Rows that point up in the cloud's frame become z.
_UP = {
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "-y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "x": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "-x": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
}
UP_AXES = tuple(_UP)


def read_cloud(
    path: str | Path, columns: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Read a point cloud.

    Args:
        path: a file with one of ``SUFFIXES``, or a folder of arrays (``coord.npy``,
            ``color.npy``, ...). ``.bin`` is KITTI's float32 rows of x, y, z and
            intensity, and ``.pcd.bin`` nuScenes' of five numbers.
        columns: names of the columns of ``.npy``, ``.bin``, ``.txt`` and ``.xyz``
            files, e.g. ``("x", "y", "z", "_", "red", "green", "blue")``; ``_`` skips
            one. By default 3 are x, y, z; 4 have an intensity; 6 a colour, or a normal
            if all have unit length (or none, NaN or 0); 9 both. Other formats name
            their own.

    Returns:
        ``coord`` (N, 3), and where there are ``color`` (N, 3), 0-255 or 0-1,
        ``normal`` (N, 3) and ``strength`` (N,), 0-1.

    Raises:
        UserError: no such file, an unknown format, damaged, without coordinates, fewer
            than two points, or arrays of other shapes or kinds; columns named of a
            format that names its own.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if columns is not None and (path.is_dir() or suffix not in _BARE):
        raise UserError(
            f"cloud {path} names its arrays itself; leave the names of columns "
            "(--columns) out"
        )
    if path.is_dir():
        cloud = read_scene(path, _ARRAYS)
        if "coord" not in cloud:
            raise UserError(f"folder {path} has no coord.npy")
    elif not path.is_file():
        raise UserError(f"cloud {path} does not exist")
    elif suffix == ".ply":
        cloud = read_ply(path)
        cloud = {**_named(cloud), **{k: cloud[k] for k in _ARRAYS if k in cloud}}
    elif suffix == ".pcd":
        cloud = _named(read_pcd(path))
    elif suffix in (".las", ".laz"):
        cloud = read_las(path)
    elif suffix == ".npz":
        cloud = _read_npz(path)
    elif suffix in _BARE:
        cloud = _named(_read_columns(path, suffix, columns))
    else:
        raise UserError(
            f"cloud {path}: format {suffix or 'without a suffix'} is unknown; use one "
            f"of {', '.join(SUFFIXES)} or a folder of arrays"
        )
    if "coord" not in cloud:
        raise UserError(f"{path} holds no coordinates x, y and z")
    cloud = {key: cloud[key] for key in _ARRAYS if key in cloud}
    problem = form_problem(cloud)
    if problem:
        raise UserError(f"{path}: the cloud {problem.replace('.npy', '')}")
    if "color" in cloud and cloud["color"].dtype.kind in "iu":
        cloud["color"] = eight_bits(cloud["color"])
    if "strength" in cloud:
        strength = np.asarray(cloud["strength"], np.float32)
        cloud["strength"] = strength / strength_range(strength)
    return cloud


def _named(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gather columns into arrays by their names, in whatever case they are."""
    lower = {name.lower(): values for name, values in table.items()}
    cloud = {}
    for array, choices in _NAMES.items():
        for axes in choices:
            if all(axis in lower and lower[axis].ndim == 1 for axis in axes):
                parts = [lower[axis] for axis in axes]
                cloud[array] = parts[0] if len(axes) == 1 else np.stack(parts, 1)
                break
    return cloud


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in _ARRAYS if key in file.files}
    except Exception as error:  # a damaged archive fails in many ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason})") from None


def _read_columns(
    path: Path, suffix: str, columns: Sequence[str] | None
) -> dict[str, np.ndarray]:
    if suffix == ".bin":
        if columns is None:
            nuscenes = path.name.endswith(".pcd.bin")
            columns = [*_XYZ, "intensity", *["_"] * nuscenes]
        values = np.fromfile(path, "<f4")
        if values.nbytes != path.stat().st_size or len(values) % len(columns):
            raise UserError(
                f"{path} is cut short, or its rows are not {len(columns)} float32; "
                "name its columns by --columns"
            )
        values = values.reshape(-1, len(columns))
    elif suffix == ".npy":
        values = read_array(path)
        if values.dtype.names:
            return {name: values[name] for name in values.dtype.names}
    else:
        values = _read_text(path)
    if values.ndim != 2 or values.shape[1] < 3 or values.dtype.kind not in "iuf":
        raise UserError(
            f"{path} holds {values.dtype} of shape {values.shape}, not rows of x, y, z"
        )
    num = values.shape[1]
    if columns is None:
        columns = _COLUMNS.get(num)
        if columns is None:
            raise UserError(
                f"{path} has {num} columns: name them by --columns, as in "
                "x,y,z,intensity,red,green,blue, with _ for one to skip"
            )
        if num == 6 and _are_normals(values[:, 3:]):
            columns = [*_XYZ, *_NORMAL]
    if len(columns) != num:
        raise UserError(f"{path} has {num} columns, but {len(columns)} are named")
    return {name: values[:, i] for i, name in enumerate(columns) if name != "_"}


def _read_text(path: Path) -> np.ndarray:
    try:
        with open(path, encoding="utf-8") as file:
            comma = "," in file.readline()
            file.seek(0)
            return parse_table(file, delimiter="," if comma else None)
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is no table of numbers ({reason})") from None


def _are_normals(values: np.ndarray) -> bool:
    """Whether columns (N, 3) are of unit length where there is something in them.

    A point that no plane was fitted to has a normal of NaN or 0.
    """
    length = np.linalg.norm(values, axis=1)
    length = length[np.isfinite(length) & (length > 0)]
    return bool(len(length)) and bool(np.allclose(length, 1, atol=0.01))


@dataclass(frozen=True)
class Frame:
    """How a cloud's own frame lies to metres with z up, which networks are trained in.

    Attributes:
        scale: metres in a unit of the cloud.
        rotation: (3, 3), from the cloud's axes to ours.
    """

    scale: float
    rotation: np.ndarray

    @classmethod
    def of(cls, units: str = "m", up: str = "z") -> "Frame":
        """Return the frame of a cloud.

        Args:
            units: one of ``UNITS``, or the length of the cloud's unit in metres.
            up: its axis that points up, one of ``UP_AXES``.

        Raises:
            UserError: an unknown unit or axis.
        """
        try:
            scale = UNITS[units] if units in UNITS else float(units)
        except ValueError:
            scale = 0.0
        if not 0 < scale < np.inf:
            raise UserError(
                f"units {units!r}: use one of {', '.join(UNITS)}, or the length of a "
                "unit in metres"
            )
        if up not in _UP:
            raise UserError(f"up {up!r}: use one of {', '.join(UP_AXES)}")
        return cls(scale, np.array(_UP[up], np.float64))

    def metres(self, cloud: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a cloud in metres, z up."""
        moved = dict(cloud)
        if self.scale != 1 or not np.array_equal(self.rotation, np.eye(3)):
            moved["coord"] = self.point(cloud["coord"])
            if "normal" in cloud:
                moved["normal"] = np.asarray(cloud["normal"]) @ self.rotation.T
        return moved

    def point(self, coord: np.ndarray) -> np.ndarray:
        """Return points (..., 3) of the cloud in metres, z up, as float64."""
        return np.asarray(coord, np.float64) @ self.rotation.T * self.scale

    def back(self, vector: np.ndarray) -> np.ndarray:
        """Return vectors (N, 3) in metres, z up, in the cloud's own frame and units."""
        return vector @ (self.rotation / self.scale).astype(vector.dtype)
