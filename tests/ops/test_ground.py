"""Ground of outdoor scans: slopes, kerbs, empty cells."""

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.ops.device_ground import device_ground_mask
from pointins_plugin.ops.ground import ground_mask, ground_points


def terrain(slope, n=20000, seed=0):
    """A slope with a box of 4 x 2 x 1.5 m on it; returns coord and what is box."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-30, 30, (n, 2))
    box = (np.abs(xy[:, 0] - 10) < 2) & (np.abs(xy[:, 1]) < 1)
    z = slope * xy[:, 0] + 0.02 * rng.standard_normal(n)
    z[box] += rng.uniform(0.4, 1.5, box.sum())
    return np.column_stack([xy, z]), box


@pytest.mark.parametrize("slope", [0.0, 0.1, -0.1])
def test_a_slope_is_ground_and_a_box_is_not(slope):
    coord, box = terrain(slope)
    ground = ground_points(coord)
    assert ground[~box].mean() > 0.995
    assert not ground[box].any()


def test_a_bend_that_no_plane_follows():
    coord, box = terrain(0.05)
    coord[:, 2] += 0.001 * np.square(coord[:, 0])  # .9 m up at the ends
    ground = ground_points(coord)
    assert ground[~box].mean() > 0.9
    assert not ground[box].any()


def test_height_and_a_kerb():
    coord, box = terrain(0.0)
    kerb = coord[:, 1] > 5
    coord[kerb, 2] += 0.15
    assert ground_points(coord)[kerb].mean() > 0.99
    low = ground_points(coord, height=2.0)
    assert low[box].all()


def test_where_nothing_is_seen():
    coord, _ = terrain(0.0)
    far = coord[np.hypot(coord[:, 0], coord[:, 1]) > 20]
    island = np.array([[0.0, 0.0, 1.0]])
    ground = ground_points(np.concatenate([far, island]))
    assert not ground[-1]
    assert ground_points(np.zeros((0, 3))).shape == (0,)
    assert ground_points(np.ones((1, 3))).tolist() == [True]


def test_clouds_of_a_batch_have_grounds_of_their_own():
    low, _ = terrain(0.0, n=4000)
    high = low + (0, 0, 5.0)  # above the other cloud, on its own ground
    coord = torch.from_numpy(np.concatenate([low, high])).float()
    offset = torch.tensor([4000, 4000, 8000])  # the second cloud is empty
    ground = ground_mask(coord, offset, height=0.3)
    expected = ground_points(low.astype(np.float32))
    np.testing.assert_array_equal(ground[:4000].numpy(), expected)
    np.testing.assert_array_equal(ground[4000:].numpy(), expected)
    empty = ground_mask(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert empty.shape == (0,)


def test_a_stray_point_does_not_take_all_memory():
    coord, _ = terrain(0.0, n=100)
    coord[0, :2] = 1e6
    ends = torch.tensor([len(coord)])
    for find in (
        ground_points,
        lambda c: device_ground_mask(torch.from_numpy(c), ends),
    ):
        with pytest.raises(
            UserError, match=r"span 1,000,\d+ x 1,000,\d+ m, .+ stray points"
        ) as error:
            find(coord)
        assert "\n" not in str(error.value)
    coord[0, 1] = 0  # far away in one direction only: a grid of few rows
    assert ground_points(coord).any()
