"""Mean shift: separated blobs, agreement with scikit-learn, degenerate input."""

import numpy as np
import torch

from pointins_plugin.ops import mean_shift
from pointins_plugin.ops.mean_shift import mean_shift_modes


def blobs(scatter=0.03, n=200, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.6, 0], [2, 2, 0]])
    truth = np.repeat(np.arange(4), n)
    return centres[truth] + rng.normal(size=(4 * n, 3)) * scatter, truth


def test_one_mode_a_blob():
    points, truth = blobs(scatter=0.08)
    found = mean_shift_modes(points, bandwidth=0.12, min_size=20)
    agree = [np.bincount(found[truth == k] + 1).max() / 200 for k in range(4)]
    assert min(agree) > 0.95
    assert len(np.unique(found[found >= 0])) == 4


def test_touching_blobs_that_components_would_merge():
    rng = np.random.default_rng(1)
    bridge = np.linspace([0, 0, 0], [0.5, 0, 0], 12)
    points, truth = blobs(scatter=0.04)
    points = np.concatenate(
        [points[truth < 2], bridge + rng.normal(size=(12, 3)) * 0.005]
    )
    found = mean_shift_modes(points, bandwidth=0.1)[:400]
    assert found[:200].max() < 0.5 < found[200:].min()


def test_clouds_are_apart_and_duplicates_together():
    points = np.zeros((10, 3))
    batch = np.arange(10) // 5
    assert mean_shift_modes(points, 0.1, batch).tolist() == [0] * 5 + [1] * 5


def test_trajectories_may_move_in_any_number_of_parts(monkeypatch):
    points, _ = blobs(scatter=0.08)
    whole = mean_shift_modes(points, bandwidth=0.12)
    most = []

    class Tree(mean_shift.cKDTree):
        def sparse_distance_matrix(self, *args, **kwargs):
            most.append(self.n)
            return super().sparse_distance_matrix(*args, **kwargs)

    monkeypatch.setattr(mean_shift, "cKDTree", Tree)
    monkeypatch.setattr(mean_shift, "_BLOCK", 7)
    assert (mean_shift_modes(points, bandwidth=0.12) == whole).all()
    assert max(most) == 7


def test_degenerate_input():
    assert mean_shift_modes(np.zeros((0, 3)), 0.1).tolist() == []
    assert mean_shift_modes(np.zeros((1, 3)), 0.1).tolist() == [0]
    points = np.array([[0.0, 0, 0], [0, 0, 0], [9, 9, 9], [np.nan, 0, 0]])
    assert mean_shift_modes(points, 0.1, min_size=2).tolist() == [0, 0, -1, -1]
    tensor = mean_shift_modes(torch.zeros(3, 3), 0.1)
    assert isinstance(tensor, torch.Tensor)


def test_permutation_permutes():
    points, _ = blobs()
    order = np.random.default_rng(0).permutation(len(points))
    found, moved = mean_shift_modes(points, 0.1), mean_shift_modes(points[order], 0.1)
    pairs = np.unique(np.stack([found[order], moved]), axis=1)
    assert pairs.shape[1] == found.max() + 1
