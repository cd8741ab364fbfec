"""PLY files that any viewer opens: points with values, and offsets as arrows."""

from pathlib import Path

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.files import write_whole
from pointins_plugin.text_table import parse_table

_TO_PLY = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
_FROM_PLY = {ply: kind for kind, ply in _TO_PLY.items()} | {
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
_NARROWED = {"i8": "i4", "u8": "u4", "f2": "f4", "b1": "u1"}  # PLY has none of these
_VECTORS = {
    "coord": ("x", "y", "z"),
    "normal": ("nx", "ny", "nz"),
    "color": ("red", "green", "blue"),
}


def _column(name: str, values: np.ndarray, rows: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (rows,):
        raise UserError(
            f"{name} has shape {values.shape}, but there are {rows} points; give one "
            "value a point"
        )
    kind = values.dtype.str[1:]
    kind = _NARROWED.get(kind, kind)
    if kind not in _TO_PLY:
        raise UserError(
            f"{name} holds {values.dtype}, which a PLY file cannot; cast it"
        )
    if kind in ("i4", "u4") and values.dtype.itemsize == 8 and rows:
        limits = np.iinfo(kind)
        if values.min() < limits.min or values.max() > limits.max:
            raise UserError(f"{name} does not fit 32 bits; cast it to float64")
    return values.astype("<" + kind)


def _vertices(coord, color, normal, scalars) -> np.ndarray:
    coord = np.asarray(coord)
    if coord.ndim != 2 or coord.shape[1] != 3:
        raise UserError(f"coord has shape {coord.shape}, not (N, 3)")
    columns = {}
    for name, values in (("coord", coord), ("normal", normal), ("color", color)):
        if values is None:
            continue
        values = np.asarray(values)
        if values.shape != coord.shape:
            raise UserError(f"{name} has shape {values.shape}, coord {coord.shape}")
        if name == "color":
            values = np.clip(np.rint(values), 0, 255).astype("u1")
        elif values.dtype != np.float64:
            values = values.astype("f4")
        for i, axis in enumerate(_VECTORS[name]):
            columns[axis] = values[:, i]
    for name, values in scalars.items():
        if not name.isidentifier() or name in columns:
            raise UserError(
                f"{name!r} cannot name a value of a point: use another word"
            )
        columns[name] = values
    checked = {name: _column(name, v, len(coord)) for name, v in columns.items()}
    table = np.empty(len(coord), [(name, v.dtype) for name, v in checked.items()])
    for name, values in checked.items():
        table[name] = values
    return table


def _write(path: str | Path, elements: dict[str, np.ndarray]) -> Path:
    lines = ["ply", "format binary_little_endian 1.0", "comment written by pointins"]
    for name, table in elements.items():
        lines.append(f"element {name} {len(table)}")
        for column in table.dtype.names:
            kind = _TO_PLY[table.dtype[column].str[1:]]
            lines.append(f"property {kind} {column}")
    lines.append("end_header\n")

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            file.write("\n".join(lines).encode("ascii"))
            for table in elements.values():
                file.write(table.tobytes())

    return write_whole(path, write)


def write_ply(path: str | Path, coord, color=None, normal=None, **scalars) -> Path:
    """Write a point cloud as binary PLY.

    Args:
        path: file to write; its folder is made. Never left half-written.
        coord: (N, 3) m; float64 is kept, anything else becomes float32.
        color: (N, 3), 0-255, rounded.
        normal: (N, 3).
        scalars: further values a point, each (N,), e.g. ``instance``, ``shift_x``.

    Returns:
        The path.

    Raises:
        UserError: shapes that do not fit, or a file that cannot be written.
    """
    return _write(path, {"vertex": _vertices(coord, color, normal, scalars)})


def write_arrows_ply(path: str | Path, coord, shift, color=None) -> Path:
    """Write vectors as line segments from ``coord`` to ``coord + shift``.

    Vertices 0 to N-1 are the points, N to 2N-1 the tips; an ``edge`` element joins
    them, which MeshLab and CloudCompare draw as lines.

    Args:
        path: file to write.
        coord, shift: (N, 3) m.
        color: (N, 3), 0-255, of both ends.

    Returns:
        The path.

    Raises:
        UserError: shapes that do not fit, or a file that cannot be written.
    """
    coord, shift = np.asarray(coord), np.asarray(shift)
    if coord.shape != shift.shape:
        raise UserError(f"shift has shape {shift.shape}, coord {coord.shape}")
    ends = np.concatenate([coord, coord + shift])
    both = None if color is None else np.concatenate([color, color])
    edges = np.empty(len(coord), [("vertex1", "<i4"), ("vertex2", "<i4")])
    edges["vertex1"] = np.arange(len(coord))
    edges["vertex2"] = edges["vertex1"] + len(coord)
    return _write(path, {"vertex": _vertices(ends, both, None, {}), "edge": edges})


def _header(file, path: Path) -> tuple[str, list[tuple[str, int, list]]]:
    def bad(what: str) -> UserError:
        return UserError(f"{path} {what}; save it again as PLY")

    if file.readline(16).strip() != b"ply":
        raise bad("is no PLY file")
    layout, elements = "", []
    while True:
        line = file.readline(4096)
        if not line:
            raise bad("ends within its header")
        words = line.decode("ascii", "replace").split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "end_header":
            break
        try:
            if words[0] == "format":
                layout = words[1]
            elif words[0] == "element":
                elements.append((words[1], int(words[2]), []))
                if elements[-1][1] < 0:
                    raise ValueError
            elif words[0] == "property" and words[1] == "list":
                kinds = (_FROM_PLY[words[2]], _FROM_PLY[words[3]])
                elements[-1][2].append((words[4], kinds))
            elif words[0] == "property":
                elements[-1][2].append((words[2], _FROM_PLY[words[1]]))
        except (IndexError, KeyError, ValueError):
            raise bad(
                f"has an unreadable header line: {' '.join(words)[:60]!r}"
            ) from None
    for element, _, properties in elements:
        names = [name for name, _ in properties]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise bad(f"gives each {element} the property {twice!r} twice")
    if layout not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise bad(f"has format {layout!r}")
    return layout, elements


def read_ply(path: str | Path) -> dict[str, np.ndarray]:
    """Read the points of a PLY file, ascii or binary.

    Args:
        path: a file with a ``vertex`` element; faces are ignored.

    Returns:
        ``coord`` (N, 3); ``color`` (N, 3) and ``normal`` (N, 3) where there are; every
        other value under its own name, (N,); ``edge`` (E, 2) where there are edges.

    Raises:
        UserError: no such file, or not a readable PLY file of points.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            layout, elements = _header(file, path)
            tables = {}
            for name, count, properties in elements:
                if any(isinstance(kind, tuple) for _, kind in properties):
                    break  # rows of differing length: faces, which come last
                if layout == "ascii":
                    tables[name] = _ascii_rows(file, path, count, properties)
                else:
                    order = "<" if layout == "binary_little_endian" else ">"
                    dtype = np.dtype([(n, order + kind) for n, kind in properties])
                    rest = path.stat().st_size - file.tell()
                    data = file.read(min(count * dtype.itemsize, rest))
                    if len(data) < count * dtype.itemsize:
                        raise UserError(f"{path} is cut short; save it again")
                    table = np.frombuffer(data, dtype)
                    tables[name] = table.astype(dtype.newbyteorder("="))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if "vertex" not in tables or not {"x", "y", "z"} <= set(
        tables["vertex"].dtype.names
    ):
        raise UserError(f"{path} holds no points with x, y and z")
    table = tables["vertex"]
    names = list(table.dtype.names)
    cloud = {}
    for name, axes in _VECTORS.items():
        if set(axes) <= set(names):
            cloud[name] = np.stack([table[axis] for axis in axes], 1)
            names = [other for other in names if other not in axes]
    cloud.update({name: table[name].copy() for name in names})
    edges = tables.get("edge")
    if edges is not None and {"vertex1", "vertex2"} <= set(edges.dtype.names):
        cloud["edge"] = np.stack([edges["vertex1"], edges["vertex2"]], 1)
    return cloud


def _ascii_rows(file, path: Path, count: int, properties: list) -> np.ndarray:
    try:
        values = parse_table(file, len(properties), count)
    except ValueError:
        raise UserError(f"{path} is cut short or garbled; save it again") from None
    table = np.empty(count, np.dtype([(name, kind) for name, kind in properties]))
    for i, (name, _) in enumerate(properties):
        table[name] = values[:, i]
    return table
