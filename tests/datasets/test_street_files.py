"""Streets as files, read back by the readers of the real data sets."""

import numpy as np
import pytest

from pointins_plugin.datasets import (
    NuScenesPanopticDataset,
    SemanticKITTIPanopticDataset,
)
from pointins_plugin.datasets.lidar_benchmarks import NUSCENES, SEMANTIC_KITTI
from pointins_plugin.datasets.street_files import (
    KITTI_IDS,
    NUSCENES_CATEGORIES,
    write_folder,
    write_nuscenes,
    write_semantic_kitti,
)
from pointins_plugin.datasets.street_layout import CLASSES, THINGS
from pointins_plugin.datasets.streets import make_street
from pointins_plugin.errors import UserError
from pointins_plugin.host import DefaultDataset
from pointins_plugin.host.standalone.nuscenes import CLASSES as NUSCENES_IDS
from pointins_plugin.host.standalone.semantic_kitti import CLASSES as KITTI_CLASSES

BEAMS = 32


@pytest.fixture(scope="module")
def street():
    return make_street("val", 0, beams=BEAMS)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    root = tmp_path_factory.mktemp("kitti") / "root"
    return write_semantic_kitti(root, {"val": 1, "test": 1}, frames=2, beams=BEAMS)


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("nuscenes") / "root"
    return write_nuscenes(root, {"train": 1, "val": 1, "test": 1}, frames=2)


def names_of(segment, names):
    return np.array(names)[segment]


def same_instances(a, b):
    """Are two numberings of instances the same partition?"""
    pairs = np.unique(np.stack([a, b]), axis=1)
    once = (np.unique(side).size == pairs.shape[1] for side in pairs)
    return all(once) and np.array_equal(a < 0, b < 0)


def test_semantic_kitti_gives_the_street_back(kitti, street):
    dataset = SemanticKITTIPanopticDataset(split="val", data_root=str(kitti))
    assert len(dataset) == 2
    scan = dataset.get_data(0)
    assert scan["name"] == "08_000000"
    np.testing.assert_array_equal(scan["coord"], street["coord"])
    np.testing.assert_array_equal(scan["strength"], street["strength"])
    assert same_instances(scan["instance"], street["instance"])
    raw = {KITTI_CLASSES[name]: name for name in SEMANTIC_KITTI.names}
    expected = np.array([raw[KITTI_IDS[name]] for name in CLASSES])[street["segment"]]
    found = names_of(scan["segment"], SEMANTIC_KITTI.names)
    assert (found == expected).all()
    things = np.isin(found, SEMANTIC_KITTI.things)
    assert (things == np.isin(street["segment"], range(len(THINGS)))).all()


def test_a_past_scan_lies_where_the_car_was(kitti):
    dataset = SemanticKITTIPanopticDataset(
        split="val", data_root=str(kitti), past_sweeps=3, frame="vehicle"
    )
    first, second = dataset.get_data(0), dataset.get_data(1)
    assert (first["sweep"] == 0).all()
    past = second["sweep"] == 1
    assert past.sum() == len(first["coord"])
    assert (np.diff(second["sweep"]) >= 0).all()
    np.testing.assert_allclose(
        second["coord"][past], first["coord"] - (0.5, 0, 0), atol=1e-4
    )
    assert (second["segment"][past] == -1).all()
    assert (second["instance"][past] == -1).all()
    np.testing.assert_allclose(second["time_lag"][past], 0.05, atol=1e-6)
    ground = first["coord"][first["segment"] == SEMANTIC_KITTI.names.index("road"), 2]
    # a street's sensor is at 1.84 m for 32 beams, KITTI's at 1.73 m
    assert abs(np.median(ground) - (1.73 - 1.84)) < 0.02


@pytest.mark.parametrize("source", ["info", "tables"])
def test_nuscenes_gives_the_street_back(nuscenes, source):
    dataset = NuScenesPanopticDataset(
        split="val", data_root=str(nuscenes), source=source, frame="vehicle"
    )
    assert len(dataset) == 1
    scan = dataset.get_data(0)
    street = make_street("val", 0, advance=0.5, beams=BEAMS)
    np.testing.assert_allclose(
        scan["coord"], street["coord"] + (0.94, 0, 1.84), atol=1e-4
    )
    np.testing.assert_allclose(scan["strength"], street["strength"], atol=0.5 / 255)
    assert same_instances(scan["instance"], street["instance"])
    merged = {c: name for name, ids in NUSCENES_IDS.items() for c in ids}
    categories = [NUSCENES_CATEGORIES[name] for name in CLASSES]
    expected = np.array([merged[c] for c in categories])[street["segment"]]
    assert (names_of(scan["segment"], NUSCENES.names) == expected).all()


def test_nuscenes_sources_agree_on_sweeps(nuscenes):
    scans = [
        NuScenesPanopticDataset(
            split="train", data_root=str(nuscenes), source=source, past_sweeps=5
        ).get_data(0)
        for source in ("info", "tables")
    ]
    assert scans[0].keys() == scans[1].keys()
    for key in ("coord", "sweep", "time_lag", "segment", "instance", "strength"):
        np.testing.assert_allclose(scans[0][key], scans[1][key], atol=1e-5)
    assert scans[0]["sweep"].max() == 1
    past = scans[0]["sweep"] == 1
    earlier = make_street("train", 0, beams=BEAMS)["coord"]
    # the sensor looks along its y; it has driven on by half a metre
    expected = np.stack([-earlier[:, 1], earlier[:, 0] - 0.5, earlier[:, 2]], 1)
    np.testing.assert_allclose(scans[0]["coord"][past], expected, atol=1e-4)


def test_test_splits_have_no_labels(kitti, nuscenes):
    scans = [
        SemanticKITTIPanopticDataset(
            split="test", sequences=[11], data_root=str(kitti)
        ).get_data(0),
        NuScenesPanopticDataset(split="test", data_root=str(nuscenes)).get_data(0),
    ]
    for scan in scans:
        assert (scan["segment"] == -1).all()
        assert (scan["instance"] == -1).all()
    assert not list((kitti / "dataset/sequences/11").glob("labels"))


def test_folder_layout(tmp_path, street):
    root = write_folder(tmp_path / "root", {"val": 1}, beams=BEAMS)
    scan = DefaultDataset(split="val", data_root=str(root)).get_data(0)
    for key in ("coord", "strength", "segment", "instance"):
        np.testing.assert_array_equal(scan[key], street[key])


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_folder(used, {"val": 1})
    with pytest.raises(UserError, match="split 'dev'"):
        write_folder(tmp_path / "new", {"dev": 1})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left"):
        write_folder(tmp_path / "new", {"val": 1}, beams=BEAMS)
    assert [path.name for path in tmp_path.iterdir()] == ["used"]
