"""PCD files of the Point Cloud Library: ascii, binary and compressed."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.text_table import parse_table

_KINDS = {
    ("F", 4): "f4",
    ("F", 8): "f8",
    **{(kind, size): f"{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}
_LAYOUTS = ("ascii", "binary", "binary_compressed")


def read_pcd(path: str | Path) -> dict[str, np.ndarray]:
    """Read the columns of a PCD file.

    Args:
        path: version 0.6 or 0.7.

    Returns:
        Each field by its name, (N,) or (N, count); ``rgb`` and ``rgba``, which pack
        three bytes into a number, as ``red``, ``green`` and ``blue``. Padding fields
        (``_``) are left out. Points without a return are NaN, as in the file.

    Raises:
        UserError: no such file, or not a readable PCD file.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            table = _read(file, path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    return {
        name: values
        for key, column in table.items()
        for name, values in _open(key, column)
    }


def _bad(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}; save it again as PCD")


def _read(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    header: dict[str, list[str]] = {}
    while "DATA" not in header:
        line = file.readline(1 << 16)
        if not line:
            raise _bad(path, "ends within its header" if header else "is no PCD file")
        words = line.decode("ascii", "replace").split()
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
            if not header.keys() & {"VERSION", "FIELDS", "COLUMNS"}:
                raise _bad(path, "is no PCD file")
    try:
        names = header.get("FIELDS") or header["COLUMNS"]
        sizes = [int(word) for word in header["SIZE"]]
        kinds = header["TYPE"]
        counts = [int(word) for word in header.get("COUNT", ["1"] * len(names))]
        if "POINTS" in header:
            num = int(header["POINTS"][0])
        else:
            num = int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
        layout = header["DATA"][0].lower()
        fields = [
            (name, _KINDS[kind.upper(), size], count)
            for name, kind, size, count in zip(names, kinds, sizes, counts, strict=True)
        ]
    except (KeyError, IndexError, ValueError) as error:
        raise _bad(path, f"has an unreadable header ({error})") from None
    if num < 0 or min(counts, default=1) < 1 or layout not in _LAYOUTS:
        raise _bad(path, f"has {num} points of layout {layout!r}")
    if layout == "ascii":
        return _ascii(file, path, fields, num)
    size = num * sum(int(kind[1]) * count for _, kind, count in fields)
    if layout == "binary":
        data = file.read(min(size, _rest(file)))
        if len(data) < size:
            raise _bad(path, "is cut short")
        row = np.dtype([(str(i), "<" + k, (c,)) for i, (_, k, c) in enumerate(fields)])
        rows = np.frombuffer(data, row, num)
        return {name: rows[str(i)] for i, (name, _, _) in enumerate(fields)}
    lengths = file.read(8)
    packed, unpacked = np.frombuffer(lengths, "<u4") if len(lengths) == 8 else (0, -1)
    data = file.read(int(packed))
    if len(data) < packed or unpacked != size:
        raise _bad(path, "is cut short")
    try:
        data = lzf_decompress(data, size)
    except ValueError:
        raise _bad(
            path, "is damaged: its compressed points cannot be unpacked"
        ) from None
    table, start = {}, 0
    for name, kind, count in fields:  # one field after another
        column = np.frombuffer(data, "<" + kind, num * count, start)
        table[name] = column.reshape(num, count)
        start += column.nbytes
    return table


def _rest(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def _ascii(file: BinaryIO, path: Path, fields: list, num: int) -> dict[str, np.ndarray]:
    width = sum(count for _, _, count in fields)
    try:
        values = parse_table(file, width, num)
    except ValueError:
        raise _bad(path, "is cut short or garbled") from None
    table, start = {}, 0
    for name, kind, count in fields:
        part = values[:, start : start + count]
        table[name] = part.astype(kind)
        start += count
    return table


def _open(name: str, column: np.ndarray) -> list[tuple[str, np.ndarray]]:
    if name == "_":
        return []
    column = np.ascontiguousarray(column)
    if name in ("rgb", "rgba") and column.dtype.itemsize == 4:
        packed = column.reshape(-1).view(np.uint32)
        shifts = (("red", 16), ("green", 8), ("blue", 0))
        return [(key, ((packed >> by) & 255).astype(np.uint8)) for key, by in shifts]
    column = column.astype(column.dtype.newbyteorder("="))
    return [(name, column[:, 0] if column.shape[1] == 1 else column)]


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Unpack LibLZF's format, by which PCD files are compressed.

    Args:
        data: the packed bytes.
        size: of what was packed.

    Raises:
        ValueError: the bytes are damaged or give another size.

    Source: LibLZF. A control byte below 32 starts a run of literal bytes; others name
    an earlier place, its distance in 13 bits, and a length.
    """
    out = bytearray()
    place, end = 0, len(data)
    try:
        while place < end:
            control = data[place]
            place += 1
            if control < 32:
                stop = place + control + 1
                if stop > end:
                    raise ValueError("cut short")
                out += data[place:stop]
                place = stop
                continue
            length = control >> 5
            if length == 7:
                length += data[place]
                place += 1
            length += 2
            start = len(out) - ((control & 31) << 8) - data[place] - 1
            place += 1
            if start < 0 or len(out) + length > size:
                raise ValueError("refers to nothing")
            found = out[start : start + length]
            # a place nearer than the length repeats what it has just written
            while len(found) < length:
                found += found[: length - len(found)]
            out += found
    except IndexError:
        raise ValueError("cut short") from None
    if len(out) != size:
        raise ValueError("another size")
    return bytes(out)
