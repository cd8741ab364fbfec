"""Folders of scenes: what is accepted, completed, and refused in one line."""

import json

import numpy as np
import pytest

from pointins_plugin.clouds import read_cloud
from pointins_plugin.commands.check_data import run as check_data
from pointins_plugin.datasets import folder
from pointins_plugin.datasets.folder import FolderDataset
from pointins_plugin.errors import UserError
from pointins_plugin.scene_transform import Recipe, SceneTransform
from pointins_plugin.scenes import check_folder, scene_folders


def arrays(n=50, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "coord": rng.random((n, 3)).astype(np.float32),
        "color": rng.integers(0, 256, (n, 3)).astype(np.uint8),
        "segment": rng.integers(0, 3, n).astype(np.int16),
        "instance": rng.integers(-1, 3, n).astype(np.int16),
    }


@pytest.fixture
def write(tmp_path):
    def _write(name="a", split="train", **changes):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for key, value in {**arrays(), **changes}.items():
            if value is not None:
                np.save(folder / f"{key}.npy", value)
        return tmp_path

    return _write


def first(root, **options):
    return FolderDataset(split="train", data_root=str(root), **options)[0]


def test_arrays_get_their_types(write):
    scene = first(write())
    assert scene["coord"].dtype == scene["color"].dtype == np.float32
    assert scene["segment"].dtype == scene["instance"].dtype == np.int32
    assert scene["name"] == "a"
    assert scene["split"] == "train"
    np.testing.assert_array_equal(scene["color"], arrays()["color"])


def test_colours_in_either_range_are_the_same(write):
    root = write()
    write("b", "unit", color=arrays()["color"].astype(np.float32) / 255)
    again = FolderDataset(split="unit", data_root=str(root))[0]
    np.testing.assert_allclose(again["color"], first(root)["color"], atol=1e-3)


@pytest.mark.parametrize(
    ("high", "dtype"),
    [(1, np.float64), (255, np.uint8), (255, np.float32), (65535, np.uint16)],
)
def test_intensities_train_as_they_are_predicted(write, high, dtype):
    """As read_cloud and SceneTransform have them, one column for Collect."""
    strength = (np.linspace(0, 0.8, 50) * high).astype(dtype)
    root = write(strength=strength)
    pick = [
        {"type": "ToTensor"},
        {"type": "Collect", "keys": (), "feat_keys": ["coord", "strength"]},
    ]
    trained = first(root, transform=pick)["feat"][:, 3].numpy()
    np.testing.assert_allclose(trained, np.linspace(0, 0.8, 50), atol=1 / 255)
    cloud = read_cloud(root / "train" / "a")
    np.testing.assert_array_equal(cloud["strength"], trained)
    transform = SceneTransform(Recipe(1e-6, ("coord", "strength")))
    for scene in (cloud, {"coord": cloud["coord"], "strength": strength}):
        cells = transform.cells(scene)
        predicted = cells.arrays["strength"][cells.inverse]
        np.testing.assert_allclose(predicted[:, 0], trained, atol=1e-7)


def test_what_is_missing_is_completed(write):
    scene = first(write(color=None, segment=None, instance=None))
    assert (scene["color"] == 127.5).all()
    assert (scene["segment"] == -1).all()
    np.testing.assert_allclose(np.linalg.norm(scene["normal"], axis=1), 1, rtol=1e-5)
    assert (scene["normal"][:, 2] >= 0).all()


def test_scenes_in_memory_are_not_changed_by_their_users(write):
    dataset = FolderDataset(split="train", data_root=str(write()))
    dataset[0]["coord"][:] = 7
    assert dataset[0]["coord"].max() <= 1


BAD = {
    "has no coord.npy": {"coord": None},
    r"coord.npy has shape \(50, 2\)": {"coord": np.zeros((50, 2))},
    "has 1 point, at least 2": {"coord": np.zeros((1, 3))},
    "has 0 points": {"coord": np.zeros((0, 3))},
    "segment.npy has 49 rows, but coord.npy 50": {"segment": np.zeros(49, int)},
    "coord.npy has 1 row with NaN": {"coord": np.r_[np.eye(3), [[np.nan, 0, 0]]]},
    r"instance.npy has shape \(50, 2\), not": {"instance": np.zeros((50, 2), int)},
    r"normal.npy has shape \(50,\), not": {"normal": np.zeros(50)},
    "color.npy holds <U3, not numbers": {"color": np.full((50, 3), "red")},
    "segment.npy holds 4.29.*e\\+09, too large": {"segment": np.full(50, 2**32 - 1)},
    "strength.npy has 50 rows with NaN or inf": {"strength": np.full(50, np.inf)},
    "color.npy ranges from -1": {"color": np.full((50, 3), -1.0)},
    "all 50 points lie on one place": {"coord": np.ones((50, 3))},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_scenes_are_named(write, message):
    changes = BAD[message]
    if "NaN" in message:
        changes = {**changes, "color": None, "segment": None, "instance": None}
    root = write(**changes)
    with pytest.raises(UserError, match=message) as error:
        first(root)
    assert "\n" not in str(error.value)
    assert "train/a" in str(error.value)


def test_bad_scenes_are_skipped_only_if_asked(write):
    root = write()
    write("b", coord=np.zeros((1, 3)))
    assert len(FolderDataset(split="train", data_root=str(root))) == 2
    assert len(FolderDataset(split="train", data_root=str(root), skip_bad=True)) == 1


def test_all_scenes_bad(write):
    root = write(coord=np.zeros((1, 3)))
    with pytest.raises(UserError, match="every scene was skipped"):
        FolderDataset(split="train", data_root=str(root), skip_bad=True)


def test_map_coordinates_keep_their_millimetres(write):
    local = arrays()["coord"].astype(np.float64) / 100
    scene = first(write(coord=local + [4.5e5, 5.4e6, 300]))
    assert scene["coord"].max() < 2
    shift = scene["coord"][0] - local[0]
    np.testing.assert_allclose(scene["coord"] - local, [shift] * 50, atol=1e-6)


def test_a_stray_point_does_not_take_the_millimetres(write, capsys):
    local = arrays()["coord"].astype(np.float64)
    near = np.concatenate([local[1:], [[-9000, 0, 0]]]) + [4.5e5, 5.4e6, 300]
    scene = first(write(coord=near))
    shift = np.round(scene["coord"][0] - local[1])
    np.testing.assert_allclose(scene["coord"][:-1] - local[1:], [shift] * 49, atol=1e-6)
    far = np.concatenate([near[1:], np.zeros((1, 3))])
    root = write("b", coord=far)
    message = r"has 1 row farther than 10 km .* row 49 at \(0, 0, 0\).*take out stray"
    with pytest.raises(UserError, match=message) as error:
        FolderDataset(split="train", data_root=str(root))[1]
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="1 of 2 scenes below"):
        check_data([str(root)])
    assert "b coord.npy has 1 row farther" in capsys.readouterr().out


def test_coordinates_near_the_origin_stay_as_they_are(write):
    coord = arrays()["coord"] * [19_000, 100, 10] - [9_500, 50, 0]
    scene = first(write(coord=coord, normal=np.zeros((50, 3))))
    np.testing.assert_array_equal(scene["coord"], coord.astype(np.float32))


def test_what_was_done_is_said_once(write, monkeypatch):
    root, said = write(color=arrays()["color"] / 255.0), []
    write("b", color=arrays()["color"] / 255.0)
    logger = folder.get_root_logger()
    monkeypatch.setattr(logger, "info", said.append)
    dataset = FolderDataset(split="train", data_root=str(root))
    for i in range(2):
        dataset[i]
    assert len([line for line in said if "colours are 0-1" in line]) == 1
    assert len([line for line in said if "estimated" in line]) == 1


def test_damaged_array_is_named(write):
    root = write()
    for content in (b"junk", b""):
        (root / "train" / "a" / "coord.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"a/coord\.npy cannot be read \(.+\)$"):
            first(root)


def test_an_archive_in_place_of_an_array_is_named(write, capsys):
    root = write()
    file = root / "train" / "a" / "coord.npy"
    with open(file, "wb") as archive:
        np.savez(archive, coord=np.zeros((2, 3)))
    with pytest.raises(UserError, match=r"coord\.npy cannot be read \(it is an \.npz"):
        first(root)
    with pytest.raises(UserError, match="1 of 1 scenes below"):
        check_data([str(root)])
    assert "it is an .npz archive" in capsys.readouterr().out


def test_brackets_in_names_are_no_wildcards(tmp_path):
    root = tmp_path / "data [1]"
    for split in ("train", "train[2]"):
        (root / split / "a").mkdir(parents=True)
        found = scene_folders(root, split)
        assert found == [str(root / split / "a")]
    assert len(scene_folders(root, "tr*")) == 2
    assert scene_folders(root, "[st]rain") == [str(root / "train" / "a")]


def test_missing_and_empty_folders_say_where(tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path}/train does not exist; put one"):
        FolderDataset(split="train", data_root=str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="holds no scene"):
        FolderDataset(split="train", data_root=str(tmp_path))


def test_splits_lists_loops_and_json(write):
    root = write()
    write("b", "val")
    both = FolderDataset(split=["train", "val"], data_root=str(root), loop=3)
    assert len(both) == 6
    assert [both.get_data_name(i) for i in range(3)] == ["a", "b", "a"]
    (root / "few.json").write_text(json.dumps(["val/b"]))
    assert FolderDataset(split="few.json", data_root=str(root))[0]["name"] == "b"


def test_check_data_lists_the_bad_ones(write, capsys):
    root = write()
    write("b", coord=np.zeros((1, 3)))
    results = dict(check_folder(root))
    assert results[str(root / "train" / "a")] is None
    with pytest.raises(UserError, match="1 of 2 scenes below"):
        check_data([str(root)])
    assert "1 of 2 scenes can be used" in capsys.readouterr().out
    with pytest.raises(UserError, match="does not exist"):
        check_folder(root / "nowhere")
    with pytest.raises(UserError, match="is a file; name a folder of scenes"):
        check_folder(root / "train" / "a" / "coord.npy")


def test_check_data_finds_other_units_and_folders_without_arrays(write):
    root = write()
    write("b"), write("c")
    (root / "train" / "left").mkdir()
    (root / "train" / ".hidden").mkdir()
    assert dict(check_folder(root)).get(str(root / "train" / "left")) == (
        "has no coord.npy"
    )
    (root / "train" / "left").rmdir()
    write("d", coord=50 * arrays()["coord"])  # a hall among table tops
    assert {problem for _, problem in check_folder(root)} == {None}
    write("e", coord=1000 * arrays()["coord"])
    problems = dict(check_folder(root))
    assert "write coord.npy in metres" in problems.pop(str(root / "train" / "e"))
    assert set(problems.values()) == {None}
    ((_, alone),) = check_folder(root / "train" / "e")  # nothing to compare with
    assert "its points lie far apart: write coord.npy in metres" in alone


def test_instances_without_classes_are_of_one(write):
    root = write(segment=None)
    scene = first(root)
    inside = arrays()["instance"] >= 0
    np.testing.assert_array_equal(scene["segment"], np.where(inside, 0, -1))
    np.testing.assert_array_equal(scene["instance"], arrays()["instance"])
    write("b", "bare", segment=None, instance=None)
    bare = FolderDataset(split="bare", data_root=str(root))[0]
    assert set(bare["segment"]) == set(bare["instance"]) == {-1}


@pytest.mark.parametrize("place", [(1, 2), 3.0, "here", (0, 0, float("nan"))])
def test_a_viewpoint_is_a_place(write, place):
    root = write()
    with pytest.raises(UserError, match=r"viewpoint=.*give \(x, y, z\)"):
        first(root, viewpoint=place)


def test_a_real_folder_loads(mosd_dir):
    dataset = FolderDataset(split="val", data_root=str(mosd_dir))
    scene = dataset[0]
    assert len(dataset) == 26
    assert len(scene["coord"]) == len(scene["normal"]) > 10_000
    assert scene["instance"].max() >= 1
