"""Groups within a radius against all pairs and a graph search."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as scipy_components
from scipy.spatial.distance import cdist

from pointins_plugin.ops.components import connected_components, group_points


def reference(points, radius, kind):
    close = np.square(points[:, None] - points).sum(2) < radius**2
    close &= kind[:, None] == kind
    return scipy_components(coo_matrix(close), directed=False)[1]


def same_partition(a, b):
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def test_components_are_numbered_by_first_appearance():
    edges = torch.tensor([[3, 4], [1, 0]])
    assert connected_components(edges, 5).tolist() == [0, 1, 2, 1, 0]
    assert connected_components(edges[:, :0], 3).tolist() == [0, 1, 2]
    assert connected_components(edges[:, :0], 0).tolist() == []


@pytest.mark.parametrize("seed", range(12))
def test_exact_partition_of_random_clouds(seed):
    rng = np.random.default_rng(seed)
    n = 400
    spread = [0.05, 0.3, 1.0][seed % 3]
    centres = rng.random((8, 3)) * 3
    points = centres[rng.integers(8, size=n)] + rng.normal(size=(n, 3)) * spread
    if seed % 2:
        points = np.round(points, 1)  # duplicates and distances of exactly a radius
    labels, batch = rng.integers(2, size=n), rng.integers(2, size=n)
    for radius in (0.1, 0.2, 0.5):
        found = group_points(points, radius, labels, batch)
        expected = reference(points, radius, labels * 2 + batch)
        assert same_partition(found, expected), radius


def test_distance_of_exactly_the_radius_does_not_connect():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1.999, 0, 0]])
    assert group_points(points, 1.0).tolist() == [0, 1, 1]


def test_dense_piles_that_touch():
    """Two piles whose nearest points are just within, and just out of, reach."""
    rng = np.random.default_rng(0)
    pile = rng.random((3000, 3)) * 0.01
    for gap, groups in ((0.0999, 1), (0.1101, 2)):
        other = pile * [-1, 1, 1] + [0.0, 0, 0]
        other[:, 0] -= gap - 2 * pile[:, 0].min()
        found = group_points(np.concatenate([pile, other]), 0.1)
        nearest = cdist(pile, other).min()
        assert (nearest < 0.1) == (groups == 1)
        assert len(np.unique(found)) == groups


def test_a_chain_longer_than_any_cap():
    points = np.zeros((5000, 3))
    points[:, 0] = np.arange(5000) * 0.9
    assert group_points(points, 1.0).max() == 0


def test_small_groups_and_nan_are_dropped():
    points = np.array([[0, 0, 0], [0.1, 0, 0], [5, 0, 0], [np.nan, 0, 0], [9, 0, 0]])
    assert group_points(points, 1.0, min_size=2).tolist() == [0, 0, -1, -1, -1]
    assert group_points(points[:0], 1.0).tolist() == []


def test_tensors_give_tensors():
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0]])
    found = group_points(points, 1.0, batch=torch.tensor([0, 1, 1]))
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [0, 1, 2]


def test_permutation_permutes():
    rng = np.random.default_rng(3)
    points = rng.random((500, 3))
    order = rng.permutation(500)
    found = group_points(points, 0.1)
    assert same_partition(group_points(points[order], 0.1), found[order])


def test_groups_are_numbered_by_their_first_point():
    generator = np.random.default_rng(4)
    centres = generator.random((30, 3)) * 20
    points = centres[generator.integers(0, 30, 400)]
    points = points + 0.01 * generator.normal(size=points.shape)
    group = group_points(points, 0.2)
    first = np.unique(group, return_index=True)[1]
    assert len(first) > 20
    assert (np.diff(first) > 0).all()


def test_extent_is_no_limit():
    """Cells may be more than an integer counts: 2^22 along each of three axes."""
    last = 2.0**22 - 1
    points = np.array([[0, 0, 0], [2.0**20, 0, 0], [last] * 3, [last, last, last - 1]])
    # By a key of 64 bits the first two would lie in one cell.
    assert group_points(points, 3**0.5).tolist() == [0, 1, 2, 2]
