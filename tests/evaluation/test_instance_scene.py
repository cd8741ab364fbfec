"""Predictions beside labels: masks of labels, other points, several clouds."""

import numpy as np

from pointins_plugin.evaluation.instance_scene import batch_scenes, label_masks


def test_masks_of_labels():
    names, masks = label_masks(np.array([2, -1, 0, 2, 0, -1]))
    assert names.tolist() == [0, 2]
    assert [mask.tolist() for mask in masks] == [[2, 4], [0, 3]]
    assert label_masks(np.full(4, -1))[1] == []
    assert label_masks(np.zeros(0, int))[1] == []


def two_clouds():
    coord = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0]])
    batch = {
        "coord": coord,
        "offset": np.array([2, 5]),
        "segment": np.array([1, 1, 1, 2, 2]),
        "instance": np.array([0, 0, 0, 1, 1]),
        "name": ["a", "b"],
    }
    label = np.array([0, -1, 1, 2, 2])
    output = {
        "pred_instance": label,
        "pred_classes": np.array([1, 1, 2]),
        "pred_scores": np.array([0.9, 0.8, 0.7]),
    }
    return batch, output


def test_clouds_of_a_batch_are_apart():
    batch, output = two_clouds()
    first, second = batch_scenes(batch, output)
    assert first["name"] == "a"
    assert [mask.tolist() for mask in first["masks"]] == [[0]]
    assert first["classes"].tolist() == [1]
    assert [mask.tolist() for mask in second["masks"]] == [[0], [1, 2]]
    assert second["scores"].tolist() == [0.8, 0.7]


def test_masks_and_labels_say_the_same():
    batch, output = two_clouds()
    label = output.pop("pred_instance")
    dense = {**output, "pred_masks": label == np.arange(3)[:, None]}
    for a, b in zip(
        batch_scenes(batch, dense),
        batch_scenes(batch, {**output, "pred_instance": label}),
        strict=True,
    ):
        assert [m.tolist() for m in a["masks"]] == [m.tolist() for m in b["masks"]]
        np.testing.assert_array_equal(a["classes"], b["classes"])


def test_original_points_take_the_nearest_prediction():
    batch, output = two_clouds()
    origin = np.array([[0.9, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [1.9, 0, 0]])
    batch.update(
        origin_coord=origin,
        origin_offset=np.array([3, 4]),
        origin_segment=np.array([1, 1, 1, 2]),
        origin_instance=np.array([0, 0, 0, 1]),
    )
    first, second = batch_scenes(batch, output)
    assert [mask.tolist() for mask in first["masks"]] == [[1, 2]]
    # the cloud's first proposal is nobody's nearest: it is gone
    assert [mask.tolist() for mask in second["masks"]] == [[0]]
    assert second["classes"].tolist() == [2]
    assert len(first["segment"]) == 3
