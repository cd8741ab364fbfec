"""Instance AP against the reference numbers and by hand."""

import numpy as np
import pytest
from scipy import sparse

from pointins_plugin.evaluation.instance_ap import instance_average_precision


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
