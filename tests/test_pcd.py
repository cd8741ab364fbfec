"""PCD files: the three layouts, packed colours, and damage."""

import struct

import numpy as np
import pytest

from pointins_plugin.clouds import read_cloud
from pointins_plugin.errors import UserError
from pointins_plugin.pcd import lzf_decompress, read_pcd

RNG = np.random.default_rng(0)
COORD = RNG.normal(size=(40, 3)).astype(np.float32)
COLOR = RNG.integers(0, 256, (40, 3)).astype(np.uint32)
PACKED = COLOR[:, 0] << 16 | COLOR[:, 1] << 8 | COLOR[:, 2]


def header(layout, rgb="F", num=40):
    return (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n"
        "FIELDS x y z rgb _ ring\nSIZE 4 4 4 4 1 2\n"
        f"TYPE F F F {rgb} U U\nCOUNT 1 1 1 1 3 1\nWIDTH {num}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {num}\nDATA {layout}\n"
    ).encode()


def binary_rows():
    table = np.zeros(
        40, [("xyz", "<f4", 3), ("rgb", "<u4"), ("_", "u1", 3), ("ring", "<u2")]
    )
    table["xyz"], table["rgb"], table["ring"] = COORD, PACKED, np.arange(40)
    return table


def check(path):
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud["coord"], COORD)
    np.testing.assert_array_equal(cloud["color"], COLOR)
    np.testing.assert_array_equal(read_pcd(path)["ring"], np.arange(40))


def lzf_literal(data):
    """Pack without compressing: runs of up to 32 bytes."""
    runs = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


@pytest.mark.parametrize("rgb", ["F", "U"])
def test_binary(tmp_path, rgb):
    (tmp_path / "a.pcd").write_bytes(header("binary", rgb) + binary_rows().tobytes())
    check(tmp_path / "a.pcd")


@pytest.mark.parametrize("rgb", ["F", "U"])
def test_ascii(tmp_path, rgb):
    packed = PACKED.astype(np.uint32)
    shown = packed.view(np.float32) if rgb == "F" else packed
    lines = [
        " ".join([*(repr(float(v)) for v in xyz), str(c), "0 0 0", str(i)])
        for i, (xyz, c) in enumerate(zip(COORD, shown, strict=True))
    ]
    text = "\n".join(lines).encode() + b"\n"
    (tmp_path / "a.pcd").write_bytes(header("ascii", rgb) + text)
    check(tmp_path / "a.pcd")
    (tmp_path / "a.pcd").write_bytes(header("ascii", rgb) + text[: len(text) // 2])
    with pytest.raises(UserError, match="cut short"):
        read_pcd(tmp_path / "a.pcd")


def test_compressed(tmp_path):
    rows = binary_rows()
    columns = [rows["xyz"][:, i] for i in range(3)] + [rows["rgb"], rows["_"]]
    raw = b"".join(c.tobytes() for c in [*columns, rows["ring"]])
    packed = lzf_literal(raw)
    body = struct.pack("<II", len(packed), len(raw)) + packed
    path = tmp_path / "a.pcd"
    path.write_bytes(header("binary_compressed") + body)
    check(path)
    path.write_bytes(header("binary_compressed") + body[:-5])
    with pytest.raises(UserError, match="cut short"):
        read_pcd(path)
    damaged = bytearray(body)
    damaged[8] = 255
    path.write_bytes(header("binary_compressed") + bytes(damaged))
    with pytest.raises(UserError, match="damaged"):
        read_pcd(path)


def test_lzf_by_hand():
    # "abc", then 5 bytes from 3 back (overlapping), then 9 bytes from 1 back
    data = bytes([2]) + b"abc" + bytes([3 << 5, 2]) + bytes([7 << 5, 0, 0])
    assert lzf_decompress(data, 17) == b"abc" + b"abcab" + b"b" * 9
    for damaged in (data[:-1], bytes([5]) + b"ab", bytes([1 << 5, 9]), data + b"\0x"):
        with pytest.raises(ValueError, match=r"."):
            lzf_decompress(damaged, 17)


def test_returns_that_are_missing_stay_nan(tmp_path):
    rows = binary_rows()
    rows["xyz"][3] = np.nan
    (tmp_path / "a.pcd").write_bytes(header("binary") + rows.tobytes())
    assert np.isnan(read_cloud(tmp_path / "a.pcd")["coord"][3]).all()


@pytest.mark.parametrize(
    "content",
    [
        header("binary") + binary_rows().tobytes()[:-1],
        header("binary", num=10**15),
        header("ascii", num=10**15) + b"1 2 3 4 0 0 0 5\n",
        header("zip"),
        header("binary").replace(b"SIZE 4", b"SIZE four"),
        header("binary").replace(b"TYPE F", b"TYPE Q"),
        header("binary").replace(b"POINTS 40", b"POINTS -4"),
        header("binary").partition(b"DATA")[0],
    ],
)
def test_damage_is_one_line(tmp_path, content):
    path = tmp_path / "a.pcd"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_pcd(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
