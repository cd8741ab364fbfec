"""nuScenes' labels by hand, and what a damaged copy answers."""

import json
import pickle

import numpy as np
import pytest

from pointins_plugin.datasets import NuScenesPanopticDataset
from pointins_plugin.datasets.fake_layouts import write_nuscenes
from pointins_plugin.datasets.lidar_benchmarks import NUSCENES
from pointins_plugin.datasets.nuscenes_tables import (
    MINI_VAL_SCENES,
    VAL_SCENES,
    in_split,
    rotation_matrix,
)
from pointins_plugin.datasets.street_files import write_nuscenes as write_streets
from pointins_plugin.errors import UserError

INFO = "info/nuscenes_infos_10sweeps_val.pkl"


@pytest.fixture
def root(tmp_path):
    return write_nuscenes(tmp_path, splits=("val",), scans=1, num_points=50)


def read(root, **options):
    options = {"split": "val", "data_root": str(root), **options}
    return NuScenesPanopticDataset(**options).get_data(0)


def panoptic_file(root):
    (file,) = (root / "raw/panoptic/v1.0-trainval").iterdir()
    return file


def test_labels_by_hand(root):
    labels = np.zeros(50, np.uint16)
    labels[:6] = [17001, 17002, 2001, 3001, 24000, 17000]
    np.savez(panoptic_file(root), data=labels)
    scan = read(root)
    names = [NUSCENES.names[c] if c >= 0 else None for c in scan["segment"][:7]]
    assert names == [
        "car",
        "car",
        "pedestrian",
        "pedestrian",
        "driveable_surface",
        "car",
        None,  # noise
    ]
    # an adult and a child of the same number are two pedestrians
    assert scan["instance"][:7].tolist() == [2, 3, 0, 1, -1, -1, -1]
    assert len(np.unique(scan["panoptic"][:7])) == 7
    assert scan["strength"].max() <= 1


@pytest.mark.parametrize("source", ["named", "unnamed", "tables"])
def test_lidarseg_labels(root, source):
    (file,) = (root / "raw/lidarseg/v1.0-trainval").iterdir()
    (entry,) = pickle.loads((root / INFO).read_bytes())
    options = {"labels": "lidarseg"}
    if source == "named":
        file = file.rename(root / "raw/classes.bin")
        entry["gt_segment_path"] = "classes.bin"
    elif source == "unnamed":
        del entry["gt_segment_path"]
    (root / INFO).write_bytes(pickle.dumps([entry]))
    if source == "tables":
        write_streets(root / "plain", {"val": 1}, beams=32, dropout=0.9)
        root = root / "plain"
        (file,) = root.rglob("*_lidarseg.bin")
        options["source"] = "tables"
    # points of a thing outside all boxes: the panoptic labels have no class there
    categories = np.full(file.stat().st_size, 17, np.uint8)
    categories[0] = 24
    categories.tofile(file)
    scan = read(root, **options)
    car = NUSCENES.names.index("car")
    assert scan["segment"][0] == NUSCENES.names.index("driveable_surface")
    assert (scan["segment"][1:] == car).all()
    assert (scan["instance"] == -1).all()
    assert (scan["panoptic"] == -1).all()
    assert not (read(root)["segment"] == scan["segment"]).all()
    categories[1:].tofile(file)
    with pytest.raises(UserError, match="rows, but their scan has"):
        read(root, **options)
    file.unlink()
    with pytest.raises(UserError, match="missing; get nuScenes-lidarseg") as error:
        read(root, **options)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_are_of_a_known_kind(root):
    with pytest.raises(UserError, match="labels='boxes'; use one of panoptic, lid"):
        read(root, labels="boxes")
    assert (read(root, labels=False)["segment"] == -1).all()


def test_benchmark_has_10_things_and_6_stuff():
    assert len(NUSCENES.things) == 10
    assert NUSCENES.stuff_classes == tuple(range(10, 16))
    assert NUSCENES.min_points == 15
    assert NUSCENES.submitted == tuple(range(1, 17))


def test_splits_are_the_published_ones():
    assert len(VAL_SCENES) == 150
    assert {"scene-0003", "scene-0110", "scene-1073"} <= VAL_SCENES
    assert not {"scene-0001", "scene-0037", "scene-1110"} & VAL_SCENES
    assert in_split("scene-0003", "val")
    assert not in_split("scene-0003", "train")
    assert in_split("scene-0001", "train")
    assert MINI_VAL_SCENES == {"scene-0103", "scene-0916"}
    assert in_split("scene-0061", "mini_train")
    assert in_split("scene-0077", "test")


def test_quaternions():
    quarter = rotation_matrix([0.5**0.5, 0, 0, 0.5**0.5])
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    rng = np.random.default_rng(0)
    matrix = rotation_matrix(rng.standard_normal(4))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(), "builtins.print"),
        ([], "is no list of scans"),
        ({"infos": []}, "is no list of scans"),
        ([{"lidar_path": "a"}], "scan 0 has no usable entry"),
        ([{"lidar_path": 3, "lidar_token": "a"}], "int where a name"),
        ([{"lidar_path": "../b", "lidar_token": "a"}], "leads out of the data folder"),
        ([{"lidar_path": "/b", "lidar_token": "a"}], "leads out of the data folder"),
        ([{"lidar_path": np.array([print])}], "make it anew, or use source"),
    ],
)
def test_info_files_are_not_trusted(root, content, message, capsys):
    (root / INFO).write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        read(root)
    assert "\n" not in str(error.value)
    assert "make it anew" in str(error.value)
    assert "run" not in capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(50, 32000, np.uint16), "class id 32"),
        (np.full(49, 17001, np.uint16), "have 49 rows, but their scan has 50"),
        (np.full((50, 2), 17001, np.uint16), "no row of integers"),
        (np.full(50, -1), "no row of integers"),
    ],
)
def test_damaged_labels_are_named(root, labels, message):
    np.savez(panoptic_file(root), data=labels)
    with pytest.raises(UserError, match=message) as error:
        read(root)
    assert "_panoptic.npz" in str(error.value)
    assert "anew" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"nothing"])
def test_unreadable_labels_are_named(root, content):
    panoptic_file(root).write_bytes(content)
    with pytest.raises(UserError, match=r"_panoptic\.npz cannot be read .*anew"):
        read(root)


def test_missing_pieces_are_named(root):
    (entry,) = pickle.loads((root / INFO).read_bytes())
    del entry["ref_from_car"]
    (root / INFO).write_bytes(pickle.dumps([entry]))
    with pytest.raises(UserError, match="no ref_from_car"):
        read(root, frame="vehicle")
    panoptic_file(root).unlink()
    with pytest.raises(UserError, match=r"missing; get the nuScenes-panoptic labels"):
        read(root)
    with pytest.raises(UserError, match="past_sweeps=10"):
        read(root, past_sweeps=10)
    with pytest.raises(UserError, match="source='web'"):
        read(root, source="web")
    (root / INFO).unlink()
    with pytest.raises(UserError, match=r"neither v1\.0-trainval nor info/nuscenes"):
        read(root)
    tables = root / "v1.0-trainval"
    tables.mkdir()
    with pytest.raises(UserError, match=r"scene\.json cannot be read"):
        read(root)
    (tables / "scene.json").write_text("[{")
    with pytest.raises(UserError, match=r"scene\.json is no JSON"):
        read(root)
    (tables / "scene.json").write_text(json.dumps([{"token": "a"}]))
    with pytest.raises(UserError, match=r"do not fit together \(KeyError: 'name'\)"):
        read(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"x" * 30, "is cut off.*anew"), (b"", "has 0 points; leave it out")],
)
def test_damaged_scans_are_named(root, content, message):
    (file,) = (root / "raw/samples/LIDAR_TOP").iterdir()
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(root)


def test_nan_returns_are_named(root):
    (file,) = (root / "raw/samples/LIDAR_TOP").iterdir()
    points = np.zeros((50, 5), np.float32)
    points[7, 1] = np.nan
    points.tofile(file)
    with pytest.raises(UserError, match="1 of 50 points with NaN or inf; take these"):
        read(root)
