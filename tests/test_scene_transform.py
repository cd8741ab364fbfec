"""What becomes of a scene outside training, read from the config of training."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_encoder import CONFIG, boxes

from pointins_plugin.errors import UserError
from pointins_plugin.host import Compose, Config
from pointins_plugin.paths import config_root, find_config
from pointins_plugin.scene_transform import Recipe, SceneTransform
from pointins_plugin.transforms.tracked_affine import CENTRES, TrackedAffine

RECIPE = Recipe(
    0.05,
    ("coord", "color", "normal"),
    after=(dict(type="CenterShift", apply_z=True), dict(type="NormalizeColor")),
)


def recipe_of(tmp_path, text):
    (tmp_path / "config.py").write_text(text, encoding="utf-8")
    return Recipe.of_config(Config.fromfile(tmp_path / "config.py"))


def test_validation_pipeline_without_labels_and_crops(tmp_path):
    found = recipe_of(tmp_path, CONFIG)
    assert found == Recipe(
        0.05,
        ("coord", "color", "normal"),
        after=RECIPE.after,
        viewpoint=(0.0, 0.0, 5.0),
    )
    assert Recipe.of_dict(json.loads(json.dumps(asdict(found)))) == found


def test_training_views_of_paper_configs():
    """Where nothing is validated, the views say what the network takes."""
    found = Recipe.of_config(Config.fromfile(find_config("pointins/s3dis-pretrain")))
    kinds = [step["type"] for step in found.after]
    assert kinds == ["NormalizeColor", "TrackedAffine"]
    assert (found.grid_size, found.features) == (0.02, ("coord", "color", "normal"))
    other = Recipe.of_config(Config.fromfile(find_config("pointins/scannet-pretrain")))
    assert {step["type"] for step in other.after} == {"CenterShift", "NormalizeColor"}
    assert (other.grid_size, other.features) == (found.grid_size, found.features)
    lidar = Recipe.of_config(Config.fromfile(find_config("semantickitti-pretrain")))
    assert (lidar.after, lidar.features) == ((), ("coord", "strength"))


@pytest.mark.parametrize("center", CENTRES)
def test_views_are_centred_as_in_training(tmp_path, center):
    pipeline = f"""transform = [
    dict(type="GridSample", grid_size=0.05, mode="train"),
    dict(type="TrackedAffine", center={center!r}, shift=((-1, 1),) * 3),
    dict(type="Collect", keys=("coord",), feat_keys=("coord", "normal")),
]
data = dict(train=dict(transform=transform))
"""
    transform = SceneTransform(recipe_of(tmp_path, pipeline))
    scene = boxes()
    scene["coord"] += (3, 4, 5)
    cells = transform.cells(scene)
    still = TrackedAffine(rotate={}, scale=(1, 1), flip_p=0, center=center)
    trained = still({name: cells.arrays[name].copy() for name in ("coord", "normal")})
    state = np.random.get_state()[1].copy()
    feat = transform(scene)["feat"].numpy()
    np.testing.assert_array_equal(feat[:, :3], trained["coord"])
    np.testing.assert_array_equal(feat[:, 3:], trained["normal"])
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_what_precedes_the_grid_is_done_to_features_too(tmp_path):
    pipeline = """transform = [
    dict(type="CenterShift", apply_z=True),
    dict(type="NormalizeColor"),
    dict(type="GridSample", grid_size=0.05, mode="train"),
    dict(type="ToTensor"),
    dict(type="Collect", keys=("coord",), feat_keys=("coord", "color")),
]
data = dict(val=dict(transform=transform))
"""
    recipe = recipe_of(tmp_path, pipeline)
    scene = boxes()
    original = scene["color"].copy()
    batch = SceneTransform(recipe)(scene)
    np.testing.assert_array_equal(scene["color"], original)
    trained = Compose(Config.fromfile(tmp_path / "config.py").transform)(boxes())
    torch.testing.assert_close(
        batch["feat"].mean(0), trained["feat"].mean(0), atol=0.05, rtol=0
    )
    colors = {tuple(row) for row in (original / np.float32(255)).tolist()}
    assert {tuple(row) for row in batch["feat"][:, 3:].tolist()} <= colors
    grey = SceneTransform(recipe)(boxes(color=False))["feat"][:, 3:]
    assert (grey == 0.5).all()


SHIPPED = sorted(path.stem for path in (config_root() / "pointins").glob("*.py"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_has_a_recipe(name):
    found = Recipe.of_config(Config.fromfile(find_config(f"pointins/{name}")))
    assert 0 < found.grid_size <= 0.2
    assert {"coord", "color"} & set(found.features)
    Compose([dict(step) for step in found.after])


def test_config_without_pipeline(tmp_path):
    with pytest.raises(UserError, match="what the network takes is unknown"):
        recipe_of(tmp_path, 'data = dict(train=dict(type="RoomsDataset"))')


def test_a_row_for_every_point():
    scene = boxes()
    original = {key: value.copy() for key, value in scene.items()}
    batch = SceneTransform(RECIPE)(scene)
    for key in scene:
        np.testing.assert_array_equal(scene[key], original[key])
    num = len(batch["coord"])
    assert batch["feat"].shape == (num, 9)
    assert batch["offset"].tolist() == [num]
    assert batch["grid_coord"].min(0).values.tolist() == [0, 0, 0]
    assert len(torch.unique(batch["grid_coord"], dim=0)) == num
    # a point and its row lie in one cell
    cell = np.floor(scene["coord"] / 0.05)
    cell -= cell.min(0)
    rows = batch["grid_coord"][batch["inverse"]].numpy()
    np.testing.assert_array_equal(rows, cell)
    # centred as CenterShift does, colours in 0-1
    assert batch["coord"][:, 2].min() == 0
    assert 0.9 < batch["feat"][:, 3:6].max() <= 1


def test_equal_scenes_give_equal_batches_whatever_the_seed():
    first = SceneTransform(RECIPE)(boxes())
    np.random.seed(5)
    second = SceneTransform(RECIPE)(boxes())
    for key in first:
        assert torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key]))


def test_what_is_missing_is_made_up_and_named():
    transform = SceneTransform(RECIPE)
    cells = transform.cells(boxes(color=False))
    assert cells.assumed == ("all points are grey", "normals are estimated")
    assert (cells.arrays["color"] == 127.5).all()
    flat = cells.arrays["coord"][:, 2] < 0.01
    assert np.abs(cells.arrays["normal"][flat][:, 2]).mean() > 0.95
    assert cells.arrays["normal"][flat][:, 2].min() >= 0
    below = SceneTransform(Recipe(0.05, ("normal",), viewpoint=(1, 1, -5.0)))
    assert below.cells(boxes()).arrays["normal"][flat][:, 2].max() <= 0
    lidar = SceneTransform(Recipe(0.05, ("coord", "strength")))
    assert lidar.cells(boxes()).assumed == ("all intensities are 0",)
    assert lidar({**boxes(), "strength": np.ones(3000)})["feat"].shape[1] == 4
    other = SceneTransform(Recipe(0.05, ("coord", "echo")))
    with pytest.raises(UserError, match="'echo'"):
        other.cells(boxes())


def test_colours_of_either_range():
    scene = boxes()
    bright = SceneTransform(RECIPE).cells(scene).arrays["color"]
    scene["color"] = scene["color"] / 255
    same = SceneTransform(RECIPE).cells(scene).arrays["color"]
    np.testing.assert_allclose(same, bright, atol=1e-4)


def test_map_coordinates_lose_nothing():
    scene = boxes()
    far = {**scene, "coord": scene["coord"].astype(np.float64) + (5e5, 4e6, 100)}
    near = SceneTransform(RECIPE)(scene)
    moved = SceneTransform(RECIPE)(far)
    assert len(near["coord"]) == len(moved["coord"])
    for key in ("coord", "feat"):
        extent = near[key].amax(0) - near[key].amin(0)
        found = moved[key].amax(0) - moved[key].amin(0)
        torch.testing.assert_close(found, extent, atol=2e-3, rtol=0.02)


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        ({"color": np.zeros((3, 3))}, "has no coord"),
        ({"coord": np.zeros((0, 3))}, "has 0 points"),
        ({"coord": np.zeros((1, 3))}, "has 1 point,"),
        ({"coord": np.zeros((5, 3))}, "lie on one place"),
        ({"coord": np.eye(3) * 1e6}, "3 rows farther than 10 km"),
        ({"coord": np.full((4, 3), np.nan)}, "NaN"),
        ({"coord": np.zeros((4, 2))}, r"shape \(4, 2\)"),
        ({**boxes(), "color": np.zeros((5, 3))}, "color has 5 rows"),
    ],
)
def test_unusable_scenes(scene, message):
    with pytest.raises(UserError, match=message) as error:
        SceneTransform(RECIPE)(scene)
    assert ".npy" not in str(error.value)
