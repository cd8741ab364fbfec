"""LAS files: every version and format that has colours, and damage."""

import struct

import numpy as np
import pytest

from pointins_plugin.clouds import read_cloud
from pointins_plugin.errors import UserError
from pointins_plugin.las import eight_bits, read_las

NUM = 6
SCALE, ORIGIN = (0.001, 0.001, 0.01), (500000.0, 4100000.0, 100.0)
# bytes of a record, and of red in it
FORMATS = {0: (20, None), 1: (28, None), 2: (26, 20), 3: (34, 28), 7: (36, 30)}


def las(kind=2, minor=2, extra=0, deep=True):
    """Write a LAS file by the standard's layout; return it and what it holds."""
    width, red = FORMATS[kind]
    width += extra
    size = {2: 227, 3: 235, 4: 375}[minor]
    head = bytearray(size)
    head[:4] = b"LASF"
    head[24:26] = bytes([1, minor])
    struct.pack_into("<HII", head, 94, size, size + 8, 0)
    struct.pack_into("<BH", head, 104, kind, width)
    struct.pack_into("<I", head, 107, 0 if minor == 4 else NUM)
    struct.pack_into("<3d", head, 131, *SCALE)
    struct.pack_into("<3d", head, 155, *ORIGIN)
    if minor == 4:
        struct.pack_into("<Q", head, 247, NUM)
    rng = np.random.default_rng(kind)
    cells = rng.integers(-(10**6), 10**6, (NUM, 3))
    color = rng.integers(0, 65536 if deep else 256, (NUM, 3))
    records = bytearray(NUM * width)
    for i in range(NUM):
        struct.pack_into("<3iH", records, i * width, *cells[i].tolist(), 1000 * i)
        if red is not None:
            struct.pack_into("<3H", records, i * width + red, *color[i].tolist())
    return bytes(head) + b"\xcc\xdd\0\0\0\0\0\0" + bytes(records), cells, color


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("minor", [2, 3, 4])
@pytest.mark.parametrize("extra", [0, 5])
def test_layouts(tmp_path, kind, minor, extra):
    data, cells, color = las(kind, minor, extra)
    path = tmp_path / "a.las"
    path.write_bytes(data)
    cloud = read_las(path)
    np.testing.assert_allclose(cloud["coord"], cells * SCALE + np.array(ORIGIN))
    assert cloud["coord"].dtype == np.float64
    np.testing.assert_array_equal(cloud["strength"], 1000 * np.arange(NUM))
    if FORMATS[kind][1] is None:
        assert "color" not in cloud
    else:
        np.testing.assert_allclose(cloud["color"], color / 257, rtol=1e-6)
    assert read_cloud(path)["strength"].max() == np.float32(5000 / 65535)


def test_colours_written_in_eight_bits(tmp_path):
    data, _, color = las(2, deep=False)
    (tmp_path / "a.las").write_bytes(data)
    np.testing.assert_array_equal(read_las(tmp_path / "a.las")["color"], color)
    assert eight_bits(np.array([[65535, 0, 257]])).tolist() == [[255, 0, 1]]


def test_agrees_with_laspy(tmp_path):
    laspy = pytest.importorskip("laspy")
    found = laspy.create(point_format=3, file_version="1.2")
    found.header.offsets, found.header.scales = ORIGIN, SCALE
    coord = np.random.default_rng(0).normal(size=(50, 3)) * 100 + ORIGIN
    found.x, found.y, found.z = coord.T
    found.red = found.green = found.blue = np.arange(50) * 1300
    found.intensity = np.arange(50)
    found.write(tmp_path / "a.las")
    cloud = read_las(tmp_path / "a.las")
    np.testing.assert_allclose(cloud["coord"], coord, atol=0.01)
    np.testing.assert_allclose(
        cloud["color"][:, 0], np.arange(50) * 1300 / 257, rtol=1e-6
    )
    if laspy.LazBackend.detect_available():
        found.write(tmp_path / "a.laz")
        packed = read_las(tmp_path / "a.laz")
        for key, values in cloud.items():
            np.testing.assert_allclose(packed[key], values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[:-1], "cut short"),
        (lambda d: d[:100], "no LAS file, or cut short"),
        (lambda d: b"PNG" + d[3:], "no LAS file"),
        (lambda d: d[:104] + b"\x63" + d[105:], "format|laspy|cannot be read"),
        (lambda d: d[:105] + b"\x05\x00" + d[107:], "does not define"),
    ],
)
def test_damage_is_one_line(tmp_path, change, message):
    path = tmp_path / "a.las"
    path.write_bytes(change(las()[0]))
    with pytest.raises(UserError, match=message) as error:
        read_las(path)
    assert "\n" not in str(error.value)
