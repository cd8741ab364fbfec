"""SemanticKITTI's labels by hand, and what a damaged copy answers."""

import numpy as np
import pytest

from pointins_plugin.datasets import SemanticKITTIPanopticDataset
from pointins_plugin.datasets.lidar_benchmarks import SEMANTIC_KITTI
from pointins_plugin.datasets.panoptic_kitti import read_motion
from pointins_plugin.errors import UserError


def write_sequence(root, labels, sequence=8, points=None):
    folder = root / "dataset" / "sequences" / f"{sequence:02d}"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if points is None:
        points = np.arange(4.0 * len(labels)).reshape(-1, 4)
    np.asarray(points, "<f4").tofile(folder / "velodyne" / "000000.bin")
    np.asarray(labels, "<u4").tofile(folder / "labels" / "000000.label")
    return folder


def read(root, **options):
    options = {"split": "val", "data_root": str(root), **options}
    return SemanticKITTIPanopticDataset(**options).get_data(0)


def test_labels_by_hand(tmp_path):
    raw = [
        (3, 10),  # car 3
        (3, 252),  # moving car 3: another label, another thing
        (3, 30),  # person 3
        (0, 10),  # a car without an id
        (0, 60),  # lane marking: road
        (7, 40),  # a road with an id
        (5, 52),  # other structure: no class
        (9, 259),  # moving other vehicle
        (9, 13),  # bus 9: the same class and id
        (9, 20),  # other vehicle 9
    ]
    write_sequence(tmp_path, [upper << 16 | lower for upper, lower in raw])
    scan = read(tmp_path)
    names = [SEMANTIC_KITTI.names[c] if c >= 0 else None for c in scan["segment"]]
    assert names == [
        "car",
        "car",
        "person",
        "car",
        "road",
        "road",
        None,
        *["other-vehicle"] * 3,
    ]
    assert scan["instance"].tolist() == [0, 2, 1, -1, -1, -1, -1, 5, 3, 4]
    # in the order of the labels as numbers
    assert scan["panoptic"].tolist() == [2, 4, 3, 0, 1, 6, 5, 9, 7, 8]
    assert scan["coord"].tolist()[1] == [4, 5, 6]
    assert scan["strength"].tolist()[1] == [7]


def test_benchmark_has_8_things_and_11_stuff():
    assert len(SEMANTIC_KITTI.things) == 8
    assert len(SEMANTIC_KITTI.stuff) == 11
    assert {"road", "pole", "traffic-sign"} <= set(SEMANTIC_KITTI.stuff)
    assert SEMANTIC_KITTI.stuff_classes == tuple(range(8, 19))
    assert SEMANTIC_KITTI.min_points == 50


def test_both_ways_to_name_the_root(tmp_path):
    write_sequence(tmp_path, [10, 10])
    inner = read(tmp_path / "dataset")
    np.testing.assert_array_equal(inner["coord"], read(tmp_path)["coord"])


def test_vehicle_frame_is_on_the_ground(tmp_path):
    points = [[1, 2, -1.73, 0], [3, 4, 0, 0]]
    write_sequence(tmp_path, [40, 10], points=points)
    coord = read(tmp_path, frame="vehicle")["coord"]
    np.testing.assert_allclose(coord, [[1, 2, 0], [3, 4, 1.73]], atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "velodyne/000000.bin").write_bytes(b"x" * 20), "is cut off"),
        (lambda f: (f / "velodyne/000000.bin").write_bytes(b"x" * 17), "is cut off"),
        (lambda f: (f / "velodyne/000000.bin").write_bytes(b""), "has 0 points"),
        (
            lambda f: np.float32([[np.nan, 0, 0, 0]] * 3).tofile(
                f / "velodyne/000000.bin"
            ),
            "3 of 3 points with NaN",
        ),
        (
            lambda f: np.uint32([10] * 5).tofile(f / "labels/000000.label"),
            "have 5 rows, but their scan has 3",
        ),
        (
            lambda f: np.uint32([10, 77, 10]).tofile(f / "labels/000000.label"),
            "class id 77",
        ),
        (lambda f: (f / "labels/000000.label").unlink(), "has no labels"),
    ],
)
def test_a_damaged_copy_is_named(tmp_path, damage, message):
    damage(write_sequence(tmp_path, [10, 10, 10]))
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path)
    assert "000000" in str(error.value)
    assert ";" in str(error.value)  # what to do comes after it
    assert "\n" not in str(error.value)


def test_missing_pieces_are_named(tmp_path):
    with pytest.raises(UserError, match=r"08/velodyne does not exist.*semantic-kitti"):
        read(tmp_path)
    with pytest.raises(UserError, match="no split 'valid'"):
        read(tmp_path, split="valid")
    with pytest.raises(UserError, match="frame='world'"):
        read(tmp_path, frame="world")
    with pytest.raises(UserError, match="past_sweeps=-1"):
        read(tmp_path, past_sweeps=-1)
    folder = write_sequence(tmp_path, [10, 10])
    np.zeros((2, 4), "<f4").tofile(folder / "velodyne" / "000001.bin")
    np.zeros(2, "<u4").tofile(folder / "labels" / "000001.label")
    dataset = SemanticKITTIPanopticDataset(
        split="val", data_root=str(tmp_path), past_sweeps=1
    )
    with pytest.raises(UserError, match=r"has no poses\.txt"):
        dataset.get_data(1)


def test_poses_are_those_of_the_lidar(tmp_path):
    place = tmp_path / "sequences" / "08"
    place.mkdir(parents=True)
    # the camera looks along the LiDAR's x; both drive 2 m and turn a quarter left
    (place / "calib.txt").write_text("P0: 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses" / "08.txt").write_text(
        "1 0 0 0 0 1 0 0 0 0 1 0\n0 0 -1 0 0 1 0 0 1 0 0 2\n"
    )
    poses, times = read_motion(str(place))
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(poses[1] @ [0, 0, 0, 1], [2, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(poses[1] @ [1, 0, 0, 1], [2, 1, 0, 1], atol=1e-12)
    assert times.tolist() == [0, 0.1]
    (place / "times.txt").write_text("0\n")
    with pytest.raises(UserError, match="1 times for 2 poses"):
        read_motion(str(place))
    (place / "calib.txt").write_text("Tr: 1 2 3\n")
    with pytest.raises(UserError, match="12 numbers"):
        read_motion(str(place))
