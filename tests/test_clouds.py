"""Readers of point clouds: what was written comes back, whatever the format."""

import numpy as np
import pytest

from pointins_plugin.clouds import SUFFIXES, UP_AXES, Frame, read_cloud
from pointins_plugin.errors import UserError
from pointins_plugin.ply import write_ply

RNG = np.random.default_rng(0)
COORD = RNG.normal(size=(7, 3)).astype(np.float32)
COLOR = RNG.integers(0, 256, (7, 3)).astype(np.uint8)
NORMAL = RNG.normal(size=(7, 3)).astype(np.float32)
NORMAL /= np.linalg.norm(NORMAL, axis=1, keepdims=True)


def fails(path, **options):
    with pytest.raises(UserError) as error:
        read_cloud(path, **options)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def check(cloud, color=False, normal=False, strength=None):
    np.testing.assert_allclose(cloud["coord"], COORD, atol=1e-6)
    assert ("color" in cloud) == color
    assert ("normal" in cloud) == normal
    if color:
        np.testing.assert_array_equal(cloud["color"], COLOR)
    if normal:
        np.testing.assert_allclose(cloud["normal"], NORMAL, atol=1e-6)
    if strength is not None:
        np.testing.assert_allclose(cloud["strength"], strength, atol=1e-6)


def test_ply(tmp_path):
    path = write_ply(tmp_path / "a.ply", COORD, COLOR, NORMAL, intensity=np.arange(7.0))
    check(read_cloud(path), True, True, np.arange(7) / 255)


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".xyz"])
def test_bare_columns(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"

    def write(*parts):
        table = np.concatenate(parts, 1)
        np.save(path, table) if suffix == ".npy" else np.savetxt(path, table)

    write(COORD)
    check(read_cloud(path))
    write(COORD, COLOR)
    check(read_cloud(path), color=True)
    write(COORD, NORMAL)
    check(read_cloud(path), normal=True)
    write(COORD, COLOR, NORMAL)
    check(read_cloud(path), True, True)
    holes = NORMAL.copy()  # no plane was fitted to some points
    holes[1], holes[2] = np.nan, 0
    write(COORD, holes)
    np.testing.assert_allclose(read_cloud(path)["normal"], holes, atol=1e-6)
    write(COORD, 0 * NORMAL)
    assert not read_cloud(path)["color"].any()
    write(COORD, np.linspace(0, 1, 7)[:, None])
    check(read_cloud(path), strength=np.linspace(0, 1, 7))
    write(COLOR, np.zeros((7, 5)), COORD)
    assert "11 columns: name them by --columns" in fails(path)
    names = ["red", "green", "blue", *"_____", "x", "y", "z"]
    check(read_cloud(path, names), color=True)
    assert "2 are named" in fails(path, columns=["x", "y"])
    write(COORD[:, :2])
    assert "not rows of x, y, z" in fails(path)


def test_comma_separated_and_structured(tmp_path):
    np.savetxt(tmp_path / "a.txt", COORD, delimiter=",")
    check(read_cloud(tmp_path / "a.txt"))
    table = np.zeros(7, [("X", "f4"), ("Y", "f4"), ("Z", "f4"), ("Intensity", "u2")])
    for name, values in zip("XYZ", COORD.T, strict=True):
        table[name] = values
    table["Intensity"] = 6553
    np.save(tmp_path / "a.npy", table)
    check(read_cloud(tmp_path / "a.npy"), strength=np.full(7, 6553 / 65535))


def test_bin_of_kitti_and_nuscenes(tmp_path):
    strength = np.linspace(0, 1, 7, dtype=np.float32)[:, None]
    kitti = np.concatenate([COORD, strength], 1)
    kitti.tofile(tmp_path / "000000.bin")
    check(read_cloud(tmp_path / "000000.bin"), strength=strength[:, 0])
    ring = np.full((7, 1), 31, np.float32)
    five = np.concatenate([COORD, 255 * strength, ring], 1)
    five.tofile(tmp_path / "a.pcd.bin")
    check(read_cloud(tmp_path / "a.pcd.bin"), strength=strength[:, 0])
    five.tofile(tmp_path / "b.bin")
    assert "--columns" in fails(tmp_path / "b.bin")
    names = ["x", "y", "z", "intensity", "_"]
    check(read_cloud(tmp_path / "b.bin", names), strength=strength[:, 0])
    (tmp_path / "c.bin").write_bytes(kitti.tobytes()[:-3])
    assert "cut short" in fails(tmp_path / "c.bin")


def test_folder_and_npz(tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    np.save(folder / "coord.npy", COORD)
    np.save(folder / "color.npy", COLOR)
    np.save(folder / "segment.npy", np.zeros(7))
    check(read_cloud(folder), color=True)
    np.savez(tmp_path / "a.npz", coord=COORD, normal=NORMAL, instance=np.zeros(7))
    check(read_cloud(tmp_path / "a.npz"), normal=True)
    (folder / "coord.npy").unlink()
    assert "has no coord.npy" in fails(folder)
    np.savez(tmp_path / "b.npz", points=COORD)
    assert "no coordinates" in fails(tmp_path / "b.npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02junk", b"ply\n", b"# .PCD v"])
def test_junk_is_one_line(tmp_path, suffix, content):
    if suffix == ".laz":
        pytest.importorskip("laspy")
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(content)
    assert "\n" not in fails(path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("coord", COORD[:, 0], "has shape (7,), not (N, 3)"),
        ("coord", COORD[:, :2], "has shape (7, 2), not (N, 3)"),
        ("coord", COORD[:0], "has 0 points, at least 2"),
        ("coord", COORD[:1], "has 1 point, at least 2"),
        ("coord", COORD.astype(str), "not numbers"),
        ("coord", COORD > 0, "holds bool, not numbers"),
        ("color", COLOR[:4], "color has 4 rows, but coord 7"),
        ("color", COLOR.astype(str), "not numbers"),
        ("normal", NORMAL[:, :2], "normal has shape (7, 2)"),
        ("strength", COORD[:, 0].astype(str), "not numbers"),
    ],
)
def test_arrays_that_are_no_cloud(tmp_path, name, values, message):
    arrays = {"coord": COORD, name: values}
    folder = tmp_path / "cloud"
    folder.mkdir()
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    np.savez(tmp_path / "cloud.npz", **arrays)
    assert message in fails(folder)
    assert message in fails(tmp_path / "cloud.npz")


def test_ply_without_points(tmp_path):
    assert "has 0 points" in fails(write_ply(tmp_path / "a.ply", COORD[:0]))


def test_names_of_columns_are_for_formats_without(tmp_path):
    write_ply(tmp_path / "a.ply", COORD, COLOR)
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "coord.npy", COORD)
    for name in ("a.ply", "b"):
        assert "names its arrays itself" in fails(tmp_path / name, columns=["x"])


def test_missing_and_unknown(tmp_path):
    assert "does not exist" in fails(tmp_path / "none.ply")
    (tmp_path / "a.obj").write_text("v 0 0 0")
    assert "format .obj is unknown" in fails(tmp_path / "a.obj")


@pytest.mark.parametrize("up", UP_AXES)
def test_frames_are_rotations_that_put_up_on_z(up):
    frame = Frame.of("cm", up)
    np.testing.assert_array_equal(frame.rotation @ frame.rotation.T, np.eye(3))
    assert np.linalg.det(frame.rotation) == pytest.approx(1)
    axis = np.zeros(3)
    axis["xyz".index(up[-1])] = -1 if up[0] == "-" else 1
    np.testing.assert_allclose(frame.point(100 * axis), (0, 0, 1))
    vector = RNG.normal(size=(5, 3))
    cloud = {"coord": vector, "normal": NORMAL[:5]}
    moved = frame.metres(cloud)
    np.testing.assert_allclose(frame.back(moved["coord"]), vector)
    np.testing.assert_allclose(frame.back(moved["normal"]), NORMAL[:5] * 100, rtol=1e-5)


def test_units():
    assert Frame.of("ft").scale == 0.3048
    assert Frame.of("0.5").scale == 0.5
    for wrong in ("parsec", "-1", "0", "nan", "inf"):
        with pytest.raises(UserError, match="units"):
            Frame.of(wrong)
    with pytest.raises(UserError, match="up"):
        Frame.of("m", "w")
