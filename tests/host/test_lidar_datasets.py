"""nuScenes and SemanticKITTI in their published layouts."""

import os
import pickle

import numpy as np
import pytest

from pointins_plugin.datasets.fake_layouts import write_nuscenes, write_semantic_kitti
from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, build_dataset


@pytest.fixture
def kitti(tmp_path):
    return write_semantic_kitti(tmp_path / "kitti", scans=2, num_points=300)


@pytest.fixture
def nuscenes(tmp_path):
    return write_nuscenes(tmp_path / "nuscenes", scans=2, num_points=300)


def build(kind, root, **options):
    return build_dataset({"type": kind, "data_root": str(root), **options})


def velodyne(root, name="000000.bin"):
    return root / "dataset" / "sequences" / "08" / "velodyne" / name


def test_kitti_scan(kitti):
    with pytest.raises(
        UserError, match=r"01.velodyne does not exist; get SemanticKITTI"
    ):
        build("SemanticKITTIDataset", kitti, split="train")
    dataset = build("SemanticKITTIDataset", kitti, split="val", loop=2)
    assert len(dataset) == 4
    assert dataset.get_data_name(3) == "08_000001"
    assert dataset.get_split_name(0) == "val"
    scan = dataset[0]
    points = np.fromfile(velodyne(kitti), np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(scan["coord"], points[:, :3])
    np.testing.assert_array_equal(scan["strength"], points[:, 3:])
    label = kitti / "dataset" / "sequences" / "08" / "labels" / "000000.label"
    raw = np.fromfile(label, np.uint32) & 0xFFFF
    expected = np.select([raw == 40, raw == 10, raw == 30], [8, 0, 5], -9)
    np.testing.assert_array_equal(scan["segment"], expected)
    assert scan["name"] == "08_000000"


# learning_map of semantic-kitti.yaml, its classes counted from 0 and -1 for none
KITTI_MAP = """
    0:-1 1:-1 10:0 11:1 13:4 15:2 16:4 18:3 20:4 30:5 31:6 32:7 40:8 44:9 48:10 49:11
    50:12 51:13 52:-1 60:8 70:14 71:15 72:16 80:17 81:18 99:-1 252:0 253:6 254:5 255:7
    256:4 257:4 258:3 259:4
"""
# categories of the lidarseg benchmark, its classes counted from 0 and -1 for none
NUSCENES_MAP = """
    0:-1 1:-1 2:6 3:6 4:6 5:-1 6:6 7:-1 8:-1 9:0 10:-1 11:-1 12:7 13:-1 14:1 15:2 16:2
    17:3 18:4 19:-1 20:-1 21:5 22:8 23:9 24:10 25:11 26:12 27:13 28:14 29:-1 30:15 31:-1
"""


@pytest.mark.parametrize(
    ("kind", "table"),
    [("SemanticKITTIDataset", KITTI_MAP), ("NuScenesDataset", NUSCENES_MAP)],
)
def test_classes_of_the_benchmarks(kind, table):
    expected = dict(tuple(map(int, pair.split(":"))) for pair in table.split())
    assert DATASETS.get(kind).get_learning_map(-1) == expected
    ignored = {raw: 255 if kind == -1 else kind for raw, kind in expected.items()}
    assert DATASETS.get(kind).get_learning_map(255) == ignored


def test_classes_of_kitti_go_back_to_raw_ids():
    kind = DATASETS.get("SemanticKITTIDataset")
    classes, raw = kind.get_learning_map(-1), kind.get_learning_map_inv(-1)
    assert raw[-1] == -1
    assert [classes[raw[index]] for index in range(19)] == list(range(19))


def test_kitti_without_labels(tmp_path):
    root = write_semantic_kitti(tmp_path, sequences=range(11, 22), labels=False)
    dataset = build("SemanticKITTIDataset", root, split="test")
    assert len(dataset) == 22
    assert not dataset[0]["segment"].any()


def test_nuscenes_scan(nuscenes):
    dataset = build("NuScenesDataset", nuscenes, split=["train", "val"])
    assert len(dataset) == 4
    assert dataset.get_split_name(2) == "val"
    scan = dataset[2]
    entry = dataset.data_list[2]
    raw = nuscenes / "raw"
    points = np.fromfile(raw / entry["lidar_path"], np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(scan["coord"], points[:, :3])
    np.testing.assert_allclose(scan["strength"], points[:, 3:4] / 255)
    assert 0 <= scan["strength"].min() <= scan["strength"].max() <= 1
    category = np.fromfile(raw / entry["gt_segment_path"], np.uint8)
    expected = np.select(
        [category == 24, category == 17, category == 2], [10, 3, 6], -9
    )
    np.testing.assert_array_equal(scan["segment"], expected)
    assert scan["name"] == entry["lidar_token"]


def test_nuscenes_test_split_has_no_labels(tmp_path):
    root = write_nuscenes(tmp_path, splits=["test"], labels=False)
    assert (build("NuScenesDataset", root, split="test")[0]["segment"] == -1).all()


def test_fragments_hold_all_points(kitti):
    voxelize = dict(type="GridSample", grid_size=0.5, mode="test")
    collect = dict(type="Collect", keys=("coord", "index"), feat_keys=("coord",))
    dataset = build(
        "SemanticKITTIDataset",
        kitti,
        split="val",
        test_mode=True,
        test_cfg=dict(
            voxelize=voxelize,
            crop=None,
            post_transform=[dict(type="ToTensor"), collect],
            aug_transform=[
                [dict(type="RandomRotateTargetAngle", angle=[0], axis="z", p=1)],
                [dict(type="RandomScale", scale=[0.95, 0.95])],
            ],
        ),
    )
    sample = dataset[0]
    assert set(sample) == {"segment", "name", "fragment_list"}
    assert len(sample["segment"]) == 300
    seen = np.concatenate([part["index"].numpy() for part in sample["fragment_list"]])
    count = np.bincount(seen, minlength=300)
    # every point once for each of two augmentations at least
    assert count.min() >= 2
    first = sample["fragment_list"][0]
    assert set(first) == {"coord", "index", "feat", "offset"}


def truncate(path, by):
    path.write_bytes(path.read_bytes()[:-by])


def spoil(path, value):
    points = np.fromfile(path, np.float32)
    points[5] = value
    points.tofile(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: truncate(p, 3), "cut off: 4797 bytes"),
        (lambda p: truncate(p, 4), "cut off: 1199 numbers do not make rows of 4"),
        (lambda p: truncate(p, 16), "labels .* have 300 rows, but .* 299 points"),
        (lambda p: p.write_bytes(b""), "has 0 points"),
        (lambda p: spoil(p, np.nan), "has 1 of 300 points with NaN or inf"),
        (os.remove, "cannot be read"),
    ],
)
def test_damaged_kitti_scan_is_one_line(kitti, change, message):
    dataset = build("SemanticKITTIDataset", kitti, split="val")
    change(velodyne(kitti))
    with pytest.raises(UserError, match=message) as error:
        dataset[0]
    assert "\n" not in str(error.value)


def test_unknown_class_is_named(kitti, nuscenes):
    label = kitti / "dataset" / "sequences" / "08" / "labels" / "000000.label"
    for value in (17, 999):
        raw = np.fromfile(label, np.uint32)
        raw[7] = value
        raw.tofile(label)
        dataset = build("SemanticKITTIDataset", kitti, split="val")
        with pytest.raises(UserError, match=f"hold class id {value}, which"):
            dataset[0]
    dataset = build("NuScenesDataset", nuscenes, split="val")
    label = nuscenes / "raw" / dataset.data_list[0]["gt_segment_path"]
    np.full(300, 40, np.uint8).tofile(label)
    with pytest.raises(UserError, match="hold class id 40, which"):
        dataset[0]


class _Calls:
    def __reduce__(self):
        return os.getenv, ("HOME",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([_Calls()]), "is refused: it asks for"),
        (pickle.dumps({"a": 1}), "is no list of scans"),
        (pickle.dumps([{"lidar_path": "x"}]), "is no list of scans"),
        (pickle.dumps([]), "lists no scan"),
        (b"junk", "is refused"),
    ],
)
def test_strange_info_files_are_one_line(nuscenes, content, message):
    file = nuscenes / "info" / "nuscenes_infos_10sweeps_val.pkl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        build("NuScenesDataset", nuscenes, split="val")


def test_missing_splits(kitti, nuscenes):
    with pytest.raises(UserError, match="no split 'valid'; use one of"):
        build("SemanticKITTIDataset", kitti, split="valid")
    with pytest.raises(UserError, match="no split 'valid'; use one of"):
        build("NuScenesDataset", nuscenes, split="valid")
    with pytest.raises(UserError, match=r"5sweeps_val\.pkl does not exist"):
        build("NuScenesDataset", nuscenes, split="val", sweeps=5)
