"""Groups formed on the device, beside those of the CPU: the same numbers."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from waits import far, near, watch

from pointins_plugin.ops import device_components
from pointins_plugin.ops.components import connected_components, group_points
from pointins_plugin.ops.device_components import device_group_points


class Meter(TorchDispatchMode):
    """Note the number of elements of the largest tensor."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


def assert_same(points, radius, labels=None, batch=None, min_size=1):
    """Both paths agree; returns the groups."""
    expected = group_points(points, radius, labels, batch, min_size)
    tensor = torch.from_numpy(points)
    found = device_group_points(tensor, radius, labels, batch, min_size)
    assert found.dtype == torch.long
    np.testing.assert_array_equal(found.numpy(), expected)
    return expected


@pytest.mark.parametrize("seed", range(12))
def test_random_clouds_of_kinds(seed):
    rng = np.random.default_rng(seed)
    n = 600
    spread = [0.05, 0.3, 1.0][seed % 3]
    centres = rng.random((8, 3)) * 3
    points = centres[rng.integers(8, size=n)] + rng.normal(size=(n, 3)) * spread
    if seed % 2:
        points = np.round(points, 1)  # duplicates and distances of about a radius
    points[rng.integers(n, size=9), rng.integers(3, size=9)] = np.nan
    points[rng.integers(n, size=3)] = np.inf
    labels, batch = rng.integers(-2, 2, size=n), rng.integers(2, size=n) * 1000
    for radius in (0.1, 0.2, 0.5):
        assert_same(points, radius)
        assert_same(points.astype(np.float32), radius, labels)
        groups = assert_same(points, radius, labels, batch, min_size=3)
        assert groups.min() == -1


@pytest.mark.parametrize("radius", [0.125, 0.125 * 2**0.5, 0.25, 0.3])
def test_grids_with_distances_of_exactly_the_radius(radius):
    line = np.arange(12) * 0.125
    points = np.stack(np.meshgrid(line, line, line), -1).reshape(-1, 3) - 7
    order = np.random.default_rng(0).permutation(len(points))
    groups = assert_same(points[order], radius)
    assert (groups.max() == 0) == (radius > 0.125)


def test_a_chain_has_one_group_and_a_gap_of_the_radius_two():
    points = np.zeros((4000, 3))
    points[:, 1] = np.arange(4000) * 0.75
    assert device_group_points(torch.from_numpy(points), 1.0).max() == 0
    points[1234:, 1] += 0.25
    assert device_group_points(torch.from_numpy(points), 1.0).max() == 1


@pytest.mark.parametrize("direction", [(1, 0, 0), (1, -1, 0), (1, 1, 1), (-1, 2, 2)])
def test_two_points_within_and_out_of_reach_at_any_place(direction):
    """All places of two points in the cells, that is all offsets of cells."""
    rng = np.random.default_rng(1)
    direction = np.array(direction) / np.linalg.norm(direction)
    starts = rng.random((300, 3)) * 5
    for length, groups in ((1 - 1e-12, 1), (1 - 1e-3, 1), (1 + 1e-12, 2)):
        batch = np.repeat(np.arange(300), 2)
        points = np.repeat(starts, 2, axis=0)
        points[1::2] += length * direction
        found = assert_same(points, 1.0, batch=batch)
        assert found.max() + 1 == 300 * groups


def test_dense_piles_and_duplicates_by_parts(monkeypatch):
    """Two piles just within, and just out of, reach; compared 1,000 at a time."""
    monkeypatch.setattr(device_components, "_AT_ONCE", 1000)
    rng = np.random.default_rng(0)
    pile = np.repeat(rng.random((150, 3)) * 0.01, 3, axis=0)
    for gap, groups in ((0.0999, 1), (0.1101, 2)):
        other = pile * [-1, 1, 1]
        other[:, 0] -= gap - 2 * pile[:, 0].min()
        points = np.concatenate([pile, other])
        assert assert_same(points, 0.1).max() + 1 == groups


def test_the_one_pair_that_links_two_cells_may_stand_anywhere(monkeypatch):
    monkeypatch.setattr(device_components, "_AT_ONCE", 7)
    first = np.array([0.21, 0.14, 0.06, 0.06, 0.06])  # only .21 and 1.16 are in reach
    second = np.array([1.16, 1.22, 1.26, 1.26, 1.26])
    line = [np.r_[np.roll(first, i), np.roll(second, j)] for i, j in np.ndindex(5, 5)]
    points = np.zeros((251, 3))
    points[1:, 0] = np.concatenate(line)  # cells are counted from the point at zero
    batch = np.r_[-1, np.repeat(np.arange(25), 10)]
    assert assert_same(points, 1.0, batch=batch).tolist() == (batch + 1).tolist()


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [2, 1, 0]])
def test_cells_whose_boxes_but_not_points_are_within_the_radius(order):
    points = np.array([[0.0, 0, 0], [0.125, 0.5, 0], [1, 0, 0]])[order]
    groups = assert_same(points, 1.0)
    assert groups.max() == 1
    assert groups[order.index(0)] == groups[order.index(1)]


def test_opposite_corners_of_a_cell():
    for length, groups in ((1 - 1e-12, 1), (1 + 1e-12, 2)):
        points = np.array([[0.0, 0, 0], [length, length, length]]) / 3**0.5
        assert assert_same(points, 1.0).max() + 1 == groups


def test_few_points():
    for points in (np.zeros((0, 3)), np.ones((1, 3)), np.full((1, 3), np.nan)):
        for min_size in (1, 2):
            assert_same(points, 0.1, min_size=min_size)
    assert_same(np.full((5, 3), np.nan), 0.1)
    alone = np.array([[0.0, 0, 0], [np.nan, 0, 0], [5, 0, 0]])
    assert assert_same(alone, 0.1, min_size=2).tolist() == [-1, -1, -1]
    assert_same(np.zeros((5, 3)), 0.1, labels=np.array([0, 1, 0, 1, 2]))


def test_far_points_do_not_overflow_the_keys():
    rng = np.random.default_rng(5)
    centres = np.array([[0, 0, 0], [1, -1, 1], [-1, 1, 0.5]]) * 1e7
    points = np.concatenate([c + rng.random((50, 3)) for c in centres])
    groups = assert_same(points, 0.25, labels=np.arange(150) % 3)
    assert groups.max() > 5
    assert not set(groups[:50]) & set(groups[50:])


@pytest.mark.parametrize("num", [300, 3000])
def test_waits_four_times_however_many_points_there_are(num):
    rng = np.random.default_rng(2)
    points = torch.from_numpy(rng.random((num, 3)) * num ** (1 / 3))
    labels = torch.from_numpy(rng.integers(3, size=num))
    with watch() as waits:
        found = group_points(far(points), 0.9, far(labels), far(labels), min_size=2)
    assert torch.equal(near(found), group_points(points, 0.9, labels, labels, 2))
    assert all(site.startswith("ops/device_components.py:") for site in waits), waits
    reasons = sum(waits.values(), Counter())
    assert reasons == {"nonzero": 3, "_local_scalar_dense": 1}


def test_memory_grows_with_points_not_with_pairs(monkeypatch):
    rng = np.random.default_rng(3)
    num = 200_000
    points = rng.random((num, 3)) * [8, 8, 0.02]
    with Meter() as meter:
        found = device_group_points(torch.from_numpy(points), 0.1)
    np.testing.assert_array_equal(found.numpy(), group_points(points, 0.1))
    assert meter.largest <= 10 * num  # there are 49 pairs a point within the radius
    pile = torch.from_numpy(rng.random((6000, 3)) * 0.01)
    pile[3000:, 0] += 0.1
    monkeypatch.setattr(device_components, "_AT_ONCE", 1 << 18)
    with Meter() as meter:
        device_group_points(pile, 0.0975)
    assert meter.largest <= 3 << 18 < 3000 * 3000


def test_components_of_edges_on_a_gpu_wait_for_nothing():
    edges = torch.from_numpy(np.random.default_rng(4).integers(800, size=(2, 500)))
    with watch() as waits:
        found = connected_components(far(edges), 800)
    assert waits == {}
    assert torch.equal(near(found), connected_components(edges, 800))
