"""PLY: what is written is read back, by us and by the format's own rules."""

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.ply import read_ply, write_arrows_ply, write_ply


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    return {
        "coord": rng.normal(0, 2, (50, 3)).astype(np.float32),
        "color": rng.integers(0, 256, (50, 3)).astype(np.float32),
        "normal": rng.normal(0, 1, (50, 3)).astype(np.float32),
        "instance": rng.integers(-1, 9, 50).astype(np.int32),
        "shift_x": rng.normal(0, 1, 50).astype(np.float32),
    }


def test_round_trip(tmp_path, cloud):
    path = write_ply(tmp_path / "new" / "cloud.ply", **cloud)
    read = read_ply(path)
    assert read.keys() == cloud.keys()
    for key, values in cloud.items():
        np.testing.assert_array_equal(read[key], values)
    dtypes = {key: values.dtype for key, values in read.items()}
    assert dtypes["coord"] == np.float32
    assert dtypes["color"] == np.uint8
    assert dtypes["instance"] == np.int32


def test_bytes_follow_the_format(tmp_path):
    coord = np.array([[1.5, -2.0, 3.25]], np.float32)
    path = write_ply(tmp_path / "one.ply", coord, color=[[0, 127.6, 300]])
    header, body = path.read_bytes().split(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert "element vertex 1" in lines
    properties = [line for line in lines if line.startswith("property")]
    assert properties == [
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
    assert body == np.array([1.5, -2, 3.25], "<f4").tobytes() + bytes([0, 128, 255])


def test_wide_and_empty_values(tmp_path):
    coord = np.array([[500_000.123456, 0, 0]])
    read = read_ply(write_ply(tmp_path / "a.ply", coord, number=np.array([2**31 - 1])))
    assert read["coord"].dtype == np.float64
    np.testing.assert_array_equal(read["coord"], coord)
    assert read["number"].tolist() == [2**31 - 1]
    path = write_ply(tmp_path / "b.ply", np.zeros((0, 3)), instance=np.zeros(0, int))
    assert read_ply(path)["coord"].shape == (0, 3)


def test_arrows_join_points_and_tips(tmp_path):
    coord = np.arange(6, dtype=np.float32).reshape(2, 3)
    shift = np.array([[1, 0, 0], [0, 0, -2]], np.float32)
    color = np.array([[255, 0, 0], [0, 255, 0]])
    read = read_ply(write_arrows_ply(tmp_path / "arrows.ply", coord, shift, color))
    assert read["edge"].tolist() == [[0, 2], [1, 3]]
    start, end = (read["coord"][read["edge"][:, i]] for i in (0, 1))
    np.testing.assert_array_equal(start, coord)
    np.testing.assert_array_equal(end - start, shift)
    np.testing.assert_array_equal(read["color"], np.concatenate([color, color]))


def test_ascii_big_endian_and_faces_are_read(tmp_path):
    header = (
        "ply\nformat {} 1.0\ncomment by hand\nelement vertex 2\nproperty float32 x\n"
        "property float y\nproperty float z\nproperty int label\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    ascii_file = tmp_path / "ascii.ply"
    ascii_file.write_text(header.format("ascii") + "0 1 2 7\n3 4 5.5 -1\n3 0 1 0\n")
    table = np.array(
        [(0, 1, 2, 7), (3, 4, 5.5, -1)],
        [("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("label", ">i4")],
    )
    big_file = tmp_path / "big.ply"
    body = header.format("binary_big_endian").encode() + table.tobytes()
    big_file.write_bytes(body + bytes([3]) + bytes(12))
    for path in (ascii_file, big_file):
        read = read_ply(path)
        assert read["coord"].tolist() == [[0, 1, 2], [3, 4, 5.5]]
        assert read["label"].tolist() == [7, -1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04", "no PLY"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 9\n", "header"),
        (b"ply\nformat ascii 1.0\nelement vertex x\nend_header\n", "element vertex x"),
        (b"ply\nformat zip 1.0\nend_header\n", "zip"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 9\n"
            b"property float x\nproperty float y\nproperty float z\nend_header\n1234",
            "cut short",
        ),
        (
            b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\n"
            b"property float y\nproperty float z\nend_header\n1 2 3\n",
            "cut short",
        ),
        (b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", "no points"),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\n"
            b"property float y\nproperty float x\nend_header\n1 2 3\n",
            "each vertex the property 'x' twice",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, content, words):
    path = tmp_path / "bad.ply"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_ply(path)
    assert "bad.ply" in str(error.value)
    with pytest.raises(UserError, match=r"absent\.ply"):
        read_ply(tmp_path / "absent.ply")


def test_bad_arrays_leave_no_file(tmp_path, cloud):
    path = tmp_path / "cloud.ply"
    coord = cloud["coord"]
    with pytest.raises(UserError, match="instance"):
        write_ply(path, coord, instance=np.zeros(3))
    with pytest.raises(UserError, match="color"):
        write_ply(path, coord, color=np.zeros((50, 4)))
    with pytest.raises(UserError, match="coord"):
        write_ply(path, coord[:, :2])
    with pytest.raises(UserError, match="32 bits"):
        write_ply(path, coord, number=np.full(50, 2**40))
    with pytest.raises(UserError, match="'x'"):
        write_ply(path, coord, x=np.zeros(50))
    with pytest.raises(UserError, match="cannot write"):
        write_ply(tmp_path, coord)
    assert list(tmp_path.iterdir()) == []
