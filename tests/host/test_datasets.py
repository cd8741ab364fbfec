"""Datasets in Pointcept's layouts: names, limited labels, arrays saved by torch."""

import json
import os

import numpy as np
import pytest
import torch

from pointins_plugin.datasets import fake_layouts as fake
from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, build_dataset
from pointins_plugin.scenes import load_arrays


@pytest.fixture
def root(tmp_path):
    for split, name in (("Area_1", "office_1"), ("Area_2", "office_1")):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", np.random.rand(20, 3).astype(np.float32))
        np.save(folder / "segment20.npy", np.arange(20))
    return tmp_path


def test_s3dis_rooms_are_named_with_their_area(root):
    cfg = dict(type="S3DISDataset", split=["Area_1", "Area_2"], data_root=str(root))
    dataset = build_dataset(cfg)
    names = [dataset.get_data_name(index) for index in range(3)]
    assert names == ["Area_1-office_1", "Area_2-office_1", "Area_1-office_1"]
    assert dataset[1]["name"] == "Area_2-office_1"
    with pytest.raises(UserError, match="Area_9 does not exist; get S3DIS"):
        build_dataset({**cfg, "split": "Area_9"})


def test_scenes_that_share_a_name_are_told_apart(root):
    """Scores and predictions are kept by name; other names stay as they are."""
    (root / "Area_2" / "hall_1").mkdir()
    np.save(root / "Area_2" / "hall_1" / "coord.npy", np.random.rand(20, 3))
    splits = ["Area_1", "Area_2", "Area_2"]
    cfg = dict(type="DefaultDataset", split=splits, data_root=str(root))
    dataset = build_dataset(cfg)
    names = [dataset[index]["name"] for index in range(5)]
    again = ["hall_1", "Area_2_office_1"]
    assert names == ["Area_1_office_1", *again, *again]


def test_scenes_of_concatenated_datasets_that_share_a_name_are_told_apart(root):
    (root / "Area_2" / "hall_1").mkdir()
    np.save(root / "Area_2" / "hall_1" / "coord.npy", np.random.rand(20, 3))
    kind = {"type": "DefaultDataset", "data_root": str(root)}
    parts = [{**kind, "split": split} for split in ("Area_1", "Area_2")]
    both = build_dataset(dict(type="ConcatDataset", datasets=parts, loop=2))
    names = [both[index]["name"] for index in range(len(both))]
    assert names == ["0_office_1", "hall_1", "1_office_1"] * 2
    assert names == [both.get_data_name(index) for index in range(len(both))]


def test_limited_annotations_hide_the_other_labels(root):
    file = root / "points.pth"
    torch.save({"office_1": np.array([2, 5])}, file)
    dataset = build_dataset(
        dict(
            type="ScanNetDataset",
            split="Area_1",
            data_root=str(root),
            la_file=str(file),
        )
    )
    sample = dataset[0]
    expected = np.full(20, -1)
    expected[[2, 5]] = [2, 5]
    np.testing.assert_array_equal(sample["segment"], expected)
    np.testing.assert_array_equal(sample["sampled_index"], [2, 5])

    torch.save({"office_1": np.array([2, 20])}, file)
    with pytest.raises(UserError, match="points 2 to 20 of scene office_1, which has"):
        build_dataset(
            dict(
                type="ScanNetDataset",
                split="Area_1",
                data_root=str(root),
                la_file=str(file),
            )
        )[0]


def test_limited_scenes_take_the_place_of_the_split(tmp_path):
    root = fake.write_scannet(tmp_path, scenes=3, num_points=20)
    file = tmp_path / "scenes.txt"
    file.write_text("scene0002_00\nscene0000_00\n")
    cfg = dict(type="ScanNetDataset", data_root=str(root), lr_file=str(file))
    dataset = build_dataset(cfg)
    names = [dataset.get_data_name(index) for index in range(len(dataset))]
    assert names == ["scene0002_00", "scene0000_00"]
    file.write_text("scene0009_00\n")
    with pytest.raises(UserError, match="scene0009_00 does not exist; get ScanNet"):
        build_dataset(cfg)
    file.write_text("")
    with pytest.raises(UserError, match="names no scene"):
        build_dataset(cfg)


def test_submitted_ids_of_scannet():
    twenty = DATASETS.get("ScanNetDataset").class2id
    assert twenty.tolist()[12:] == [14, 16, 24, 28, 33, 34, 36, 39]
    two_hundred = DATASETS.get("ScanNet200Dataset").class2id
    assert len(two_hundred) == len(set(two_hundred.tolist())) == 200
    assert two_hundred.tolist()[-1] == 1191


class _Forged:
    """Bytes that NumPy itself would take for a pointer."""

    def __reduce__(self):
        rebuild = np.empty(0).__reduce__()[0]
        return rebuild, (np.ndarray, (0,), b"b"), (1, (1,), _Objects(), False, b"A" * 8)


class _Calls:
    def __reduce__(self):
        return os.getenv, ("HOME",)


class _Objects:
    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


def test_arrays_saved_by_torch(tmp_path):
    file = tmp_path / "a.pth"
    arrays = {
        "f4": np.ones((2, 3), np.float32),
        "f8": np.ones(2),
        "u1": np.ones(2, np.uint8),
        "tensor": torch.arange(3),
        "text": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3)),
    }
    torch.save(arrays, file)
    found = load_arrays(file, "frame")
    assert found.keys() == arrays.keys()
    for key, value in arrays.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].dtype == np.asarray(value).dtype
    torch.save({"forged": _Forged()}, file)
    with pytest.raises(UserError, match=r"a\.pth cannot be read \(.*'O8', not of num"):
        load_arrays(file, "frame")
    torch.save({"call": _Calls()}, file)
    with pytest.raises(UserError, match=r"cannot be read \(.*os\.getenv"):
        load_arrays(file, "frame")
    torch.save([1, 2], file)
    with pytest.raises(UserError, match=r"^frame .*a\.pth cannot be read"):
        load_arrays(file, "frame")
    with pytest.raises(UserError, match=r"la_file .*none\.pth cannot be read"):
        load_arrays(tmp_path / "none.pth", "la_file")


def test_readers_find_their_layouts(tmp_path):
    fake.write_folder(tmp_path / "folder")
    fake.write_scannet(tmp_path / "scannet")
    fake.write_s3dis(tmp_path / "s3dis", areas=(1, 5))
    readers = [
        dict(type="DefaultDataset", split="train", data_root=str(tmp_path / "folder")),
        dict(type="ScanNetDataset", split="val", data_root=str(tmp_path / "scannet")),
        dict(
            type="ScanNet200Dataset", split="val", data_root=str(tmp_path / "scannet")
        ),
        dict(type="S3DISDataset", split="Area_5", data_root=str(tmp_path / "s3dis")),
        dict(
            type="S3DISDataset",
            split=("Area_1", "Area_5"),
            data_root=tmp_path / "s3dis",
        ),
    ]
    for reader in readers:
        scene = build_dataset(reader)[0]
        for key, width in (("coord", 3), ("color", 3), ("normal", 3)):
            assert scene[key].shape == (2000, width)
            assert scene[key].dtype == np.float32
        assert scene["segment"].shape == scene["instance"].shape == (2000,)
        assert scene["segment"].dtype == np.int32
    both = build_dataset(dict(type="ConcatDataset", datasets=readers[:2], loop=3))
    assert len(both) == 12
    assert both.get_data_name(2) == "scene0000_01"
    assert both[11]["name"] == "scene0001_01"
    two = build_dataset(readers[1])[0]["segment"]
    two_hundred = build_dataset(readers[2])[0]["segment"]
    np.testing.assert_array_equal(two * 9 % 200, two_hundred)


def test_the_first_of_several_labels_counts(tmp_path):
    root = fake.write_scannetpp(tmp_path, splits=["train"], num_points=50)
    cfg = dict(type="ScanNetPPDataset", split="train", data_root=str(root))
    dataset = build_dataset(cfg)
    scene = dataset[1]
    for key in ("segment", "instance"):
        stored = np.load(root / "train" / "chunk_1" / f"{key}.npy")
        assert stored.shape == (50, 3)
        np.testing.assert_array_equal(scene[key], stored[:, 0])
        assert scene[key].dtype == np.int32
    with pytest.raises(UserError, match="ScanNetPPDataset: several labels"):
        build_dataset(cfg | {"multilabel": True})


def test_scenes_without_labels_may_be_left_out(tmp_path):
    root = fake.write_folder(tmp_path, scenes=3, num_points=50)
    (root / "train" / "scene0001" / "segment.npy").unlink()
    cfg = dict(type="HM3DDataset", split=["train", "val"], data_root=str(root))
    assert len(build_dataset(cfg)) == 5
    every = build_dataset(cfg | {"force_label": False})
    assert len(every) == 6
    assert (every[1]["segment"] == -1).all()
    for folder in root.glob("*/*"):
        (folder / "segment.npy").unlink(missing_ok=True)
    with pytest.raises(UserError, match="force_label=False"):
        build_dataset(cfg)


def test_rooms_of_structured3d_are_named_with_their_scene(tmp_path):
    root = fake.write_structured3d(tmp_path, num_points=50)
    (root / "train" / "scene_00001" / "notes").mkdir()
    cfg = dict(type="Structured3DDataset", data_root=str(root))
    dataset = build_dataset(cfg | {"split": ["train", "val"]})
    names = [dataset[i]["name"] for i in range(len(dataset))]
    assert names == ["scene_00000_room_0", "scene_00001_room_1"] * 2
    assert len(build_dataset(cfg | {"split": "val"})) == 2
    with pytest.raises(UserError, match="holds no scene"):
        build_dataset(cfg | {"split": "test"})


def test_a_split_may_be_a_list_of_scenes(tmp_path):
    root = fake.write_folder(tmp_path, num_points=20)
    (root / "some.json").write_text(json.dumps(["val/scene0001", "train/scene0000"]))
    cfg = dict(type="DefaultDataset", data_root=str(root), split="some.json", loop=2)
    dataset = build_dataset(cfg)
    names = [dataset[index]["split"] for index in range(len(dataset))]
    assert names == ["val", "train", "val", "train"]


def test_cached_scenes_are_not_spoilt_by_transforms(tmp_path):
    root = fake.write_folder(tmp_path, num_points=20)
    scale = [dict(type="RandomScale", scale=[2, 2])]
    dataset = build_dataset(
        dict(type="DefaultDataset", data_root=str(root), cache=True, transform=scale)
    )
    first = dataset[0]["coord"].copy()
    np.testing.assert_array_equal(dataset[0]["coord"], first)


TEST_CFG = dict(
    voxelize=dict(
        type="GridSample", grid_size=0.5, mode="test", return_grid_coord=True
    ),
    crop=None,
    post_transform=[
        dict(type="ToTensor"),
        dict(
            type="Collect", keys=("coord", "grid_coord", "index"), feat_keys=("color",)
        ),
    ],
    aug_transform=[
        [dict(type="RandomScale", scale=[1, 1])],
        [dict(type="RandomScale", scale=[2, 2])],
    ],
)
KEEP_LABELS = dict(type="Copy", keys_dict={"segment": "origin_segment"})
SAMPLE = dict(type="GridSample", grid_size=0.1, mode="train")


def whole(tmp_path, transform, **options):
    root = fake.write_folder(tmp_path, num_points=500)
    return build_dataset(
        dict(
            type="DefaultDataset",
            split="val",
            data_root=str(root),
            transform=transform,
            test_mode=True,
            test_cfg={**TEST_CFG, **options},
            loop=5,
        )
    )


def test_whole_scenes_come_in_fragments(tmp_path):
    dataset = whole(tmp_path, [KEEP_LABELS, {**SAMPLE, "return_inverse": True}])
    assert len(dataset) == 2  # a test takes every scene once
    sample = dataset[0]
    names = {"segment", "name", "origin_segment", "inverse", "fragment_list"}
    assert set(sample) == names
    kept = len(sample["segment"])
    assert kept < 500 == len(sample["origin_segment"]) == len(sample["inverse"])
    assert sample["inverse"].max() == kept - 1
    halves, at = [], 0
    for fragment in sample["fragment_list"]:
        assert set(fragment) == {"coord", "grid_coord", "index", "feat", "offset"}
        if fragment["coord"].max() > 6:  # the second augmentation doubles 5 m
            at = 1
        halves.append(at)
    assert set(halves) == {0, 1}
    for half in (0, 1):
        parts = [
            fragment["index"]
            for fragment, which in zip(sample["fragment_list"], halves, strict=True)
            if which == half
        ]
        assert torch.cat(parts).unique().tolist() == list(range(kept))


def test_fragments_without_voxels_and_with_crops(tmp_path):
    crop = dict(type="SphereCrop", point_max=100)

    class Halves:
        def __call__(self, scene):
            middle = len(scene["coord"]) // 2
            cut = (slice(0, middle), slice(middle, None))
            return [
                {key: scene[key][part] for key in ("coord", "color", "index")}
                for part in cut
            ]

    post = [
        dict(type="ToTensor"),
        dict(type="Collect", keys=("coord", "index"), feat_keys=("color",)),
    ]
    dataset = whole(tmp_path, [], voxelize=None, crop=crop, post_transform=post)
    dataset.test_crop = Halves()
    sample = dataset[0]
    assert set(sample) == {"segment", "name", "fragment_list"}
    assert [len(part["index"]) for part in sample["fragment_list"]] == [250] * 4
    assert sample["fragment_list"][1]["index"][0] == 250


def test_labels_before_sampling_need_the_way_back(tmp_path):
    with pytest.raises(UserError, match="set return_inverse=True in GridSample"):
        whole(tmp_path, [KEEP_LABELS, SAMPLE])[0]


def test_old_versions_of_torch_read_tensors_at_least(tmp_path, monkeypatch):
    file = tmp_path / "a.pth"
    torch.save({"coord": torch.ones(2, 3)}, file)
    monkeypatch.delattr("torch.serialization.safe_globals")  # torch < 2.5
    np.testing.assert_array_equal(load_arrays(file, "frame")["coord"], np.ones((2, 3)))
    torch.save({"coord": np.ones((2, 3))}, file)
    with pytest.raises(UserError, match=r"^frame .*a\.pth cannot be read"):
        load_arrays(file, "frame")
