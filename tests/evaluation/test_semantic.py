"""Semantic scores by hand and against counting point by point."""

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.semantic import (
    confusion_matrix,
    semantic_scores,
)


def test_by_hand():
    target = np.array([0, 0, 0, 1, 1, -1])
    predicted = np.array([0, 0, 1, 1, 0, 0])
    scores = semantic_scores(confusion_matrix(predicted, target, 2))
    # class 0: 2 of 3 found, 1 too many; class 1: 1 of 2 found, 1 too many
    np.testing.assert_allclose(scores["iou"], [2 / 4, 1 / 3])
    np.testing.assert_allclose(scores["acc"], [2 / 3, 1 / 2])
    assert scores["miou"] == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert scores["macc"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["allacc"] == pytest.approx(3 / 5)


def test_absent_classes_are_zero_or_left_out():
    predicted = np.array([0, 0, 2])
    target = np.array([0, 0, 0])
    confusion = confusion_matrix(predicted, target, 4)
    zero, skip = (semantic_scores(confusion, absent) for absent in ("zero", "skip"))
    assert zero["miou"] == pytest.approx(2 / 3 / 4)
    # class 2 is predicted, so it counts; 1 and 3 are nowhere
    np.testing.assert_allclose(skip["iou"], [2 / 3, np.nan, 0, np.nan])
    assert skip["miou"] == pytest.approx(1 / 3)
    assert skip["macc"] == pytest.approx(2 / 3)


def test_random_labels_against_sets_of_points():
    rng = np.random.default_rng(0)
    scenes = [(rng.integers(-1, 6, 500), rng.integers(-1, 5, 500)) for _ in range(3)]
    scores = semantic_scores(sum(confusion_matrix(*scene, 5) for scene in scenes))
    predicted, target = (np.concatenate(part) for part in zip(*scenes, strict=True))
    predicted, target = predicted[target != -1], target[target != -1]
    for k in range(5):
        a, b = predicted == k, target == k
        assert scores["iou"][k] == pytest.approx((a & b).sum() / (a | b).sum())
        assert scores["acc"][k] == pytest.approx((a & b).sum() / b.sum())
    assert scores["allacc"] == pytest.approx((predicted == target).mean())


def test_nothing_labelled():
    scores = semantic_scores(confusion_matrix(np.zeros(3), np.full(3, -1), 2), "skip")
    assert np.isnan([scores["miou"], scores["macc"], scores["allacc"]]).all()


def test_refusals():
    with pytest.raises(UserError, match="3 predictions for 2 labels"):
        confusion_matrix(np.zeros(3), np.zeros(2), 2)
    with pytest.raises(UserError, match="label 7 is not among 2 classes"):
        confusion_matrix(np.zeros(2), np.array([0, 7]), 2)
    with pytest.raises(UserError, match="label -2 is not among"):
        confusion_matrix(np.zeros(2), np.array([0, -2]), 2)
    with pytest.raises(ValueError, match="absent must be"):
        semantic_scores(np.zeros((2, 3)), "none")
