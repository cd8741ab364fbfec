"""Instance AP against the reference numbers and by hand."""

import numpy as np
import pytest
from scipy import sparse

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.instance_ap import (
    instance_average_precision,
    scene_overlaps,
)


def load(data, case):
    scenes = []
    for index in range(int(data[f"{case}/num_scenes"])):
        key = f"{case}/{index}"
        segment = data[f"{key}/segment"].astype(int)
        masks = np.unpackbits(data[f"{key}/masks"], axis=1)[:, : len(segment)]
        scenes.append(
            {
                "segment": segment,
                "instance": data[f"{key}/instance"].astype(int),
                "masks": masks.astype(bool),
                "classes": data[f"{key}/classes"].astype(int),
                "scores": data[f"{key}/scores"],
            }
        )
    return scenes


def cases(data):
    return sorted({key.split("/")[0] for key in data})


def test_equals_the_reference(golden_dir):
    data = np.load(golden_dir / "instance_ap.npz")
    for case in cases(data):
        result = instance_average_precision(
            load(data, case),
            int(data[f"{case}/num_classes"]),
            tuple(data[f"{case}/ignore"].tolist()),
        )
        found = [result["map"], result["ap50"], result["ap25"]]
        np.testing.assert_allclose(found, data[f"{case}/expected"], atol=1e-9)
        np.testing.assert_allclose(
            result["per_class"], data[f"{case}/expected_class"], atol=1e-9
        )


def random_scene(seed, n=2000, k=12):
    rng = np.random.default_rng(seed)
    instance = rng.integers(-1, 6, size=n)
    segment = np.where(instance >= 0, instance % 3, rng.integers(0, 4, size=n))
    masks = np.array([instance == rng.integers(0, 6) for _ in range(k)])
    masks ^= rng.random((k, n)) < 0.15
    return {
        "segment": segment,
        "instance": instance,
        "masks": masks,
        "classes": rng.integers(0, 3, size=k),
        "scores": rng.random(k),
    }


def test_dense_sparse_and_lists_agree():
    scenes = [random_scene(seed) for seed in range(3)]
    dense = instance_average_precision(scenes, 4, (3,))
    for convert in (sparse.csr_matrix, lambda m: [np.flatnonzero(row) for row in m]):
        other = [{**scene, "masks": convert(scene["masks"])} for scene in scenes]
        result = instance_average_precision(other, 4, (3,))
        np.testing.assert_array_equal(result["per_class"], dense["per_class"])


@pytest.mark.parametrize("n", [1, 63, 64, 65, 5000])
@pytest.mark.parametrize("layout", ["shuffled", "runs"])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_every_way_of_counting_agrees(n, layout, num_classes):
    """Masks as bits, numbers, rows and indices; labels in runs and in no order."""
    rng = np.random.default_rng(n + num_classes)
    instance = rng.integers(-1, 6, size=n)
    if layout == "runs":
        instance = np.sort(instance)
    segment = np.where(instance >= 0, instance % num_classes, -1)
    segment[rng.random(n) < 0.1] = num_classes
    masks = instance == rng.integers(-1, 6, size=20)[:, None]
    masks[::2] ^= rng.random((10, n)) < 0.05
    scene = {
        "segment": segment,
        "instance": instance,
        "classes": rng.integers(0, num_classes, size=20),
        "scores": rng.random(20),
    }
    truth = {
        "pred_size": masks.sum(1),
        "pred_void": masks[:, segment == num_classes].sum(1)
        + masks[:, segment == -1].sum(1),
    }
    forms = [
        masks,
        masks.astype(np.int32),
        masks.astype(np.float64),
        np.asfortranarray(masks),
        list(masks),
        sparse.csr_matrix(masks),
        sparse.coo_matrix(masks),
        [np.flatnonzero(row) for row in masks],
        [rng.permutation(np.flatnonzero(row)) for row in masks],
        [np.repeat(np.flatnonzero(row), 2) for row in masks],
    ]
    found = [
        scene_overlaps({**scene, "masks": form}, num_classes, min_region=0)
        for form in forms
    ]
    kept = truth["pred_size"] > 0
    for overlaps in found:
        for name, values in truth.items():
            np.testing.assert_array_equal(getattr(overlaps, name), values[kept])
        for gt, pred, points in zip(
            overlaps.pair_gt, overlaps.pair_pred, overlaps.pair_points, strict=True
        ):
            ids = np.unique(instance[instance >= 0])
            first = [segment[np.flatnonzero(instance == i)[0]] for i in ids]
            counted = ids[np.array(first) < num_classes]
            both = masks[kept][pred] & (instance == counted[gt])
            assert points == both.sum()
        np.testing.assert_array_equal(overlaps.pair_points, found[0].pair_points)


def test_zeros_stored_in_a_sparse_matrix_are_no_points():
    scene = random_scene(3)
    stored = sparse.csr_matrix(np.ones_like(scene["masks"], dtype=np.int8))
    stored.data[:] = scene["masks"].ravel()
    a, b = (
        instance_average_precision([{**scene, "masks": masks}], 4)["per_class"]
        for masks in (scene["masks"], stored)
    )
    np.testing.assert_array_equal(a, b)


def test_nothing_predicted_or_no_points():
    none = {
        "segment": np.zeros(300, int),
        "instance": np.zeros(300, int),
        "classes": np.zeros(0, int),
        "scores": np.zeros(0),
    }
    for masks in (np.zeros((0, 300), bool), [], sparse.csr_matrix((0, 300))):
        assert instance_average_precision([{**none, "masks": masks}], 1)["map"] == 0
    empty = {**none, "segment": np.zeros(0, int), "instance": np.zeros(0, int)}
    empty.update(classes=[0, 0], scores=[1, 1], masks=np.zeros((2, 0), bool))
    assert np.isnan(instance_average_precision([empty], 1)["map"])
    assert np.isnan(instance_average_precision([], 1)["map"])


def test_refusals():
    scene = random_scene(0)
    for change, words in (
        ({"instance": scene["instance"][1:]}, "segment has 2000 points, instance 1999"),
        ({"scores": scene["scores"][1:]}, "12 masks, 12 classes, 11 scores"),
        ({"masks": scene["masks"][:, 1:]}, "masks cover 1999 points, the labels 2000"),
        ({"masks": [np.array([5000])] * 12}, "masks cover 5001 points"),
        ({"scores": np.full(12, np.nan)}, "a score is NaN"),
    ):
        with pytest.raises(UserError, match=words):
            instance_average_precision([{**scene, **change}], 4)


def test_order_of_predictions_does_not_matter():
    scene = random_scene(7)
    order = np.random.default_rng(0).permutation(12)
    moved = {**scene, **{k: scene[k][order] for k in ("masks", "classes", "scores")}}
    a, b = (instance_average_precision([s], 4)["per_class"] for s in (scene, moved))
    np.testing.assert_allclose(a, b)


def test_half_found_by_hand():
    """One of two instances found exactly: precision 1 up to recall 1/2."""
    instance = np.repeat([0, 1], 200)
    scene = {
        "segment": np.zeros(400, int),
        "instance": instance,
        "masks": (instance == 0)[None],
        "classes": np.array([0]),
        "scores": np.array([0.9]),
    }
    result = instance_average_precision([scene], 1)
    assert result["ap50"] == pytest.approx(0.5, abs=0.01)
