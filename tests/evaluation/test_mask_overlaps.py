"""Shared points of masks and instances against counting them one by one."""

import numpy as np
import pytest
from scipy import sparse

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation import mask_overlaps
from pointins_plugin.evaluation.mask_overlaps import count_overlaps, true_instances

VALID = np.array([True, True, False])


def labels(num, layout, seed=0):
    """Classes 0 ... 2 (2 is void) and instances -1 ... 7, each of one class."""
    rng = np.random.default_rng(seed)
    instance = rng.integers(-1, 8, num)
    if layout == "runs":
        instance = np.sort(instance)
    return np.where(instance >= 0, instance % 3, -1), instance


def one_by_one(masks, segment, instance):
    ids = [i for i in np.unique(instance) if i >= 0 and VALID[i % 3]]
    void = ~np.isin(segment, np.flatnonzero(VALID))
    shared = [[np.sum(mask & (instance == i)) for mask in masks] for i in ids]
    return masks.sum(1), (masks & void).sum(1), np.array(shared)


@pytest.mark.parametrize("layout", ["runs", "shuffled"])
@pytest.mark.parametrize("share", [0.001, 0.05, 0.9])
@pytest.mark.parametrize("most", [1, 500, 1 << 20])
def test_counts_are_those_of_counting(layout, share, most, monkeypatch):
    """Few points and many, one mask at a time and all; blocks of points, and none."""
    monkeypatch.setattr(mask_overlaps, "_MOST_POINTS", most)
    segment, instance = labels(4000, layout)
    rng = np.random.default_rng(1)
    masks = rng.random((30, 4000)) < share
    if layout == "runs":
        start = rng.integers(0, 3000, 30)[:, None]
        place = np.arange(4000)
        masks = (place >= start) & (place < start + 1 + int(1000 * share))
    masks[4] = False
    gt_class, gt_size, codes = true_instances(segment, instance, VALID)
    expected = one_by_one(masks, segment, instance)
    lists = [np.flatnonzero(mask) for mask in masks]
    for form in (sparse.csr_matrix(masks), lists, masks):
        found = count_overlaps(form, codes, gt_class, np.arange(30) % 2)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
        for gt, kind in enumerate(gt_class):
            own = np.arange(30) % 2 == kind
            np.testing.assert_array_equal(found[2][gt, own], expected[2][gt, own])
    assert gt_size.tolist() == [np.sum(instance == i) for i in (0, 1, 3, 4, 6, 7)]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64, np.float32])
def test_labels_of_any_type_say_the_same(dtype):
    segment, instance = labels(500, "shuffled")
    if np.dtype(dtype).kind == "u":
        segment = np.where(segment < 0, 2, segment)
    shifted = instance + (1 if np.dtype(dtype).kind == "u" else 0)
    found = true_instances(segment.astype(dtype), shifted.astype(dtype), VALID)
    plain = true_instances(segment, shifted, VALID)
    for a, b in zip(found[:2], plain[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found[2].points, plain[2].points)


@pytest.mark.parametrize("stretch", [1, 1000, 10**12])
def test_ids_far_apart_are_told_apart(stretch):
    """Consecutive ids, more than 16 bits of pairs, and ids beyond any table."""
    segment, instance = labels(3000, "shuffled")
    far = np.where(instance >= 0, instance * stretch, -1)
    near_codes = true_instances(segment, instance, VALID)[2].points
    far_codes = true_instances(segment * 1, far, VALID)[2].points
    np.testing.assert_array_equal(near_codes, far_codes)


def test_the_class_of_an_instance_is_its_first_points():
    instance = np.array([5, 5, 5, 5])
    segment = np.array([1, 0, 0, 2])
    gt_class, gt_size, codes = true_instances(segment, instance, VALID)
    assert (gt_class.tolist(), gt_size.tolist()) == ([1], [4])
    assert codes.points.tolist() == [0, 0, 0, 1]  # the last on void


def test_points_outside_are_refused():
    segment, instance = labels(10, "shuffled")
    gt_class, _, codes = true_instances(segment, instance, VALID)
    for masks in (
        [np.array([10, 0])],
        [np.array([-1, 3])],
        [np.ones(9, bool)],
        np.ones((1, 9), bool),
    ):
        with pytest.raises(UserError, match="the labels 10"):
            count_overlaps(masks, codes, gt_class, np.zeros(1, int), "room")
