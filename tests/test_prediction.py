"""Instances of whole clouds: objects survive being cut into parts."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_encoder import boxes, write_run

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.grouping import Grouping
from pointins_plugin.prediction import by_size, predict_instances
from pointins_plugin.pretrained import load
from pointins_plugin.scene_transform import Recipe, SceneTransform

RECIPE = Recipe(0.02, ("coord",))
GROUPING = Grouping(radius=0.1, bandwidth=0.2, min_size=5, planes=None)


class Oracle(torch.nn.Module):
    """Knows the centres of all objects; in parts it sees their own frame."""

    def __init__(self, centres):
        super().__init__()
        self.centres = torch.nn.Parameter(torch.as_tensor(centres).float())
        self.sizes = []

    @torch.no_grad()
    def predict_offsets(self, batch):
        self.sizes.append(len(batch["coord"]))
        nearest = torch.cdist(batch["coord"], self.centres).argmin(1)
        return {"shift": self.centres[nearest] - batch["coord"]}


def balls(num=12, points=400):
    """Balls of 20 cm in a row, 1 m apart; the first is the largest."""
    rng = np.random.default_rng(0)
    centres = np.arange(num)[:, None] * (1.0, 0, 0)
    counts = points - 10 * np.arange(num)
    truth = np.repeat(np.arange(num), counts)
    way = rng.normal(size=(len(truth), 3))
    way *= 0.2 / np.linalg.norm(way, axis=1, keepdims=True)
    order = rng.permutation(len(truth))
    coord = (centres[truth] + way)[order].astype(np.float32)
    return centres, {"coord": coord}, truth[order]


@pytest.mark.parametrize("max_points", [10000, 700, 90])
@pytest.mark.parametrize("method", ["components", "modes"])
def test_objects_cut_by_borders_are_one(max_points, method):
    centres, scene, truth = balls()
    model = Oracle(centres)
    grouping = Grouping(0.1, 0.2, 5, planes=None, method=method)
    found = predict_instances(
        model, SceneTransform(RECIPE), scene, grouping, max_points, 0.1
    )
    assert max(model.sizes) <= max_points
    assert found.num_tiles == len(model.sizes)
    assert (found.num_tiles > 10) == (max_points == 90)
    # numbered from the one with the most points
    np.testing.assert_array_equal(found.instance, truth)
    np.testing.assert_allclose(scene["coord"] + found.shift, centres[truth], atol=1e-5)


def test_every_point_has_an_answer_for_itself():
    # points that share a cell share the centre, not the vector to it
    centres = np.array([[0.5, 0.5, 0.5]])
    coord = np.random.default_rng(0).random((2000, 3)).astype(np.float32)
    coarse = SceneTransform(Recipe(0.25, ("coord",)))
    found = predict_instances(Oracle(centres), coarse, {"coord": coord}, GROUPING)
    assert found.instance.shape == (2000,)
    assert found.instance.dtype == np.int32
    assert found.shift.dtype == np.float32
    np.testing.assert_allclose(coord + found.shift, centres.repeat(2000, 0), atol=1e-5)


def test_order_of_points_does_not_matter():
    centres, scene, _ = balls()
    order = np.random.default_rng(1).permutation(len(scene["coord"]))
    first, second = (
        predict_instances(
            Oracle(centres), SceneTransform(RECIPE), {"coord": coord}, GROUPING, 300
        )
        for coord in (scene["coord"], scene["coord"][order])
    )
    np.testing.assert_array_equal(first.instance[order], second.instance)


def test_planes_do_not_depend_on_the_parts():
    # A table of 1 m2 dominates its surroundings, not the room of 64 m2.
    rng = np.random.default_rng(0)
    floor = rng.random((16000, 3)) * (8, 8, 0.001)
    table = rng.random((600, 3)) * (1, 1, 0.001) + (3, 3, 0.7)
    scene = {"coord": np.concatenate([floor, table]).astype(np.float32)}
    grouping = Grouping(0.1, 0.2, 5, planes={"threshold": 0.02, "min_share": 0.2})
    model, transform = (
        Oracle([[3.5, 3.5, 0.7]]),
        SceneTransform(Recipe(0.05, ("coord",))),
    )
    whole, parts, narrow = (
        predict_instances(model, transform, scene, grouping, most, 0.1, size)
        for most, size in ((10**6, 10.0), (500, 10.0), (500, 0.7))
    )
    assert parts.num_tiles > 10
    assert whole.plane[:16000].all()
    assert not whole.plane[16000:].any()
    np.testing.assert_array_equal(parts.plane, whole.plane)
    np.testing.assert_array_equal(parts.instance, whole.instance)
    assert (whole.instance[:16000] == -1).all()
    assert (whole.instance[16000:] == 0).all()
    assert narrow.plane[16000:].mean() > 0.9  # the size of a scene is what counts


def test_a_network_in_parts_agrees_with_itself_whole(tmp_path):
    _, path = write_run(tmp_path)
    model, transform = load(path, "teacher")
    torch.manual_seed(0)
    first = predict_instances(model, transform, boxes(), GROUPING)
    torch.manual_seed(5)
    again = predict_instances(model, transform, boxes(), GROUPING)
    np.testing.assert_array_equal(first.shift, again.shift)
    np.testing.assert_array_equal(first.instance, again.instance)
    assert first.num_tiles == 1
    assert first.assumed == ("normals are estimated",)
    parts = predict_instances(model, transform, boxes(), GROUPING, 700, 0.3)
    assert parts.num_tiles > 2
    length = np.linalg.norm(first.shift, axis=1).mean()
    change = np.linalg.norm(parts.shift - first.shift, axis=1).mean()
    assert change < 0.5 * length  # only context and the order of cells differ


def test_progress_sees_the_parts():
    centres, scene, _ = balls()
    seen = []

    def watch(parts):
        for part in parts:
            seen.append(len(part.core))
            yield part

    predict_instances(
        Oracle(centres), SceneTransform(RECIPE), scene, GROUPING, 300, progress=watch
    )
    assert len(seen) > 3
    assert sum(seen) == len(np.unique(np.floor(scene["coord"] / 0.02), axis=0))


def test_by_size():
    label = np.array([2, 0, 2, -1, 1, 2, 0])
    assert by_size(label).tolist() == [0, 1, 0, -1, 2, 0, 1]
    assert by_size(np.array([-1, -1])).tolist() == [-1, -1]
    assert by_size(np.zeros(0, int)).tolist() == []
    assert by_size(np.array([1, 0])).tolist() == [1, 0]  # equals stay as they were


def test_unusable_scene():
    with pytest.raises(UserError, match="has 0 points"):
        predict_instances(
            Oracle([[0, 0, 0]]),
            SceneTransform(RECIPE),
            {"coord": np.zeros((0, 3))},
            GROUPING,
        )
