"""Submissions: labels by hand, places, and folders that are whole or not there."""

import json
import zipfile

import numpy as np
import pytest

from pointins_plugin.datasets.lidar_benchmarks import NUSCENES, SEMANTIC_KITTI
from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.submissions import (
    NuScenesLidarSegSubmission,
    NuScenesSubmission,
    SemanticKITTISubmission,
    zip_folder,
)


def classes(benchmark, *names):
    return np.array([benchmark.names.index(name) for name in names])


def test_semantic_kitti_by_hand(tmp_path):
    segment = classes(SEMANTIC_KITTI, "car", "car", "person", "road", "traffic-sign")
    instance = np.array([7, 7, 3, -1, -1])
    with SemanticKITTISubmission(tmp_path / "out", SEMANTIC_KITTI.submitted) as out:
        out.add("11_000042", segment, instance)
    (file,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert file == tmp_path / "out/sequences/11/predictions/000042.label"
    label = np.fromfile(file, np.uint32)
    assert (label & 0xFFFF).tolist() == [10, 10, 30, 40, 81]
    assert (label >> 16).tolist() == [2, 2, 1, 0, 0]


def test_nuscenes_by_hand(tmp_path):
    segment = classes(
        NUSCENES, "car", "car", "pedestrian", "car", "vegetation", "barrier"
    )
    instance = np.array([5, 5, 0, 9, -1, -1])
    with NuScenesSubmission(tmp_path / "out", NUSCENES.submitted, "val") as out:
        out.add("ab12", segment, instance)
    with np.load(tmp_path / "out/panoptic/val/ab12_panoptic.npz") as file:
        label = file["data"]
    assert label.dtype == np.uint16
    assert label.tolist() == [4001, 4001, 7001, 4002, 16000, 1000]
    meta = json.loads((tmp_path / "out/val/submission.json").read_text())["meta"]
    assert meta == {
        "task": "segmentation",
        "use_camera": False,
        "use_lidar": True,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }


def test_lidarseg_by_hand(tmp_path):
    segment = classes(NUSCENES, "barrier", "vegetation")
    with NuScenesLidarSegSubmission(
        tmp_path / "out", NUSCENES.submitted, external=True
    ) as out:
        out.add("ab12", segment, np.full(2, -1))
    file = tmp_path / "out/lidarseg/test/ab12_lidarseg.bin"
    assert np.fromfile(file, np.uint8).tolist() == [1, 16]
    meta = json.loads((tmp_path / "out/test/submission.json").read_text())["meta"]
    assert meta["use_external"]
    assert "task" not in meta


def test_more_than_999_instances_keep_the_largest(tmp_path):
    instance = np.append(np.arange(1200), np.repeat(np.arange(200, 1199), 2))
    segment = np.full(len(instance), NUSCENES.names.index("car"))
    label = NuScenesSubmission(tmp_path / "out", NUSCENES.submitted).encode(
        np.full(len(segment), 4), instance
    )
    number = label % 1000
    assert (label // 1000 == 4).all()
    large = (instance >= 200) & (instance < 1199)
    assert (number[large] > 0).all()
    assert (number[~large] == 0).all()
    assert len(np.unique(number)) == 1000


def test_whole_or_not_at_all(tmp_path):
    submission = SemanticKITTISubmission(tmp_path / "out", SEMANTIC_KITTI.submitted)
    one = np.zeros(1, int)

    def stop():
        with submission as out:
            out.add("11_000000", one, one)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out exists already"):
        SemanticKITTISubmission(tmp_path / "out", SEMANTIC_KITTI.submitted)


@pytest.mark.parametrize(
    ("name", "segment", "instance", "message"),
    [
        ("11_000000", [19], [0], "class 19 is none of the 19"),
        ("scene", [0], [0], "not named SEQUENCE_FRAME"),
        ("../../11_0", [0], [0], "not named SEQUENCE_FRAME"),
        ("11_000000", [0, 0], [0], "2 classes and 1 instances"),
    ],
)
def test_mistakes_are_named(tmp_path, name, segment, instance, message):
    submission = SemanticKITTISubmission(tmp_path / "out", SEMANTIC_KITTI.submitted)
    with pytest.raises(UserError, match=message), submission as out:
        out.add(name, np.array(segment), np.array(instance))
    assert not (tmp_path / "out").exists()


def test_what_reads_back_differently_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        SemanticKITTISubmission, "read", staticmethod(lambda path: np.zeros(1, "<u4"))
    )
    submission = SemanticKITTISubmission(tmp_path / "out", SEMANTIC_KITTI.submitted)
    with pytest.raises(UserError, match="reads back differently"), submission as out:
        out.add("11_000000", np.zeros(1, int), np.zeros(1, int))


def test_zip_holds_the_folder(tmp_path):
    with SemanticKITTISubmission(tmp_path / "out", SEMANTIC_KITTI.submitted) as out:
        out.add("11_000000", np.zeros(3, int), np.zeros(3, int))
    path = zip_folder(tmp_path / "out")
    assert path == tmp_path / "out.zip"
    with zipfile.ZipFile(path) as file:
        names = [name for name in file.namelist() if not name.endswith("/")]
    assert names == ["sequences/11/predictions/000000.label"]
