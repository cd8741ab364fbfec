"""Label-free scores: offsets, groupings, baselines, void points."""

import numpy as np
import pytest

from pointins_plugin.evaluation.label_free import (
    OffsetScore,
    agnostic_ap,
    format_table,
    hdbscan_instances,
    offset_instances,
    scene_prediction,
    true_offsets,
)


def scene(seed=0):
    """Two balls on a floor."""
    rng = np.random.default_rng(seed)
    balls = rng.normal(size=(300, 3)) * 0.05
    balls[:150] += [0.5, 0.5, 0.3]
    balls[150:] += [1.0, 0.5, 0.3]
    floor = np.column_stack([rng.random((400, 2)) * 1.5, np.zeros(400)])
    instance = np.repeat([0, 1, -1], [150, 150, 400])
    return np.concatenate([balls, floor]), instance


def test_true_offsets_by_hand():
    coord = np.array([[0.0, 0, 0], [2, 0, 0], [9, 9, 9]])
    offset = true_offsets(coord, np.array([5, 5, -1]))
    np.testing.assert_array_equal(offset, [[1, 0, 0], [-1, 0, 0], [0, 0, 0]])
    assert true_offsets(coord[:0], np.zeros(0)).shape == (0, 3)


def test_score_pools_scenes():
    coord, instance = scene()
    truth, thing = true_offsets(coord, instance), instance >= 0
    score = OffsetScore()
    score.update(truth, truth, thing)
    score.update(truth * 0.5, truth, thing)
    result = score.compute()
    # half of the points carry a quarter of the spread as error
    assert result["offset_r2"] == pytest.approx(1 - 0.25 / 2, abs=1e-6)
    assert result["offset_cosine"] == pytest.approx(1)
    assert np.isnan(OffsetScore().compute()["offset_r2"])


@pytest.mark.parametrize("method", ["components", "modes"])
def test_true_offsets_give_perfect_instances(method):
    coord, instance = scene()
    label = offset_instances(
        coord,
        true_offsets(coord, instance),
        plane=instance < 0,
        method=method,
        radius=0.02,
        bandwidth=0.05,
    )
    assert (label[300:] == -1).all()
    result = agnostic_ap([scene_prediction(label, instance)])
    assert result == {"map": 100.0, "ap50": 100.0, "ap25": 100.0}


def test_merging_costs_and_void_does_not():
    _, instance = scene()
    merged = np.where(instance >= 0, 0, -1)
    assert agnostic_ap([scene_prediction(merged, instance)])["ap50"] == 0
    # an instance made of floor only is forgiven
    extra = np.where(instance >= 0, instance, -1)
    extra[300:500] = 2
    assert agnostic_ap([scene_prediction(extra, instance)])["ap50"] == 100


def test_no_prediction_is_zero_and_small_truth_does_not_count():
    _, instance = scene()
    none = np.full(len(instance), -1)
    assert agnostic_ap([scene_prediction(none, instance)])["ap25"] == 0
    instance[:140] = -1
    label = np.where(instance == 1, 0, -1)
    result = agnostic_ap([scene_prediction(label, instance)], min_region=20)
    assert result["ap50"] == 100


def test_hdbscan_finds_separate_balls():
    coord, instance = scene()
    label = hdbscan_instances(coord[:300])
    assert agnostic_ap([scene_prediction(label, instance[:300])])["ap50"] == 100
    thinned = hdbscan_instances(coord[:300], max_points=200)
    assert len(thinned) == 300
    assert agnostic_ap([scene_prediction(thinned, instance[:300])])["ap25"] == 100
    assert (hdbscan_instances(coord[:5]) == -1).all()


def test_table_names_the_methods():
    row = {"map": 1.0, "ap50": 23.4, "ap25": 100.0}
    table = format_table({"components": row, "hdbscan": row})
    assert "| offsets, components          |   1.0 |  23.4 | 100.0 |" in table
    assert "HDBSCAN" in table
