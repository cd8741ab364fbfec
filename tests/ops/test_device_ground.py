"""The ground found on the device, beside that of the CPU: the same points."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from waits import far, near, watch

from pointins_plugin.ops import device_ground as module
from pointins_plugin.ops.device_ground import device_ground_mask
from pointins_plugin.ops.ground import ground_mask


def street(seed):
    """A bent slope with a kerb, boxes and a hole where nothing is seen."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-25, 25, (rng.integers(500, 9000), 2)) * rng.uniform(0.3, 1, 2)
    z = 0.001 * np.square(xy).sum(1) + xy @ rng.uniform(-0.1, 0.1, 2)
    z += 0.15 * (xy[:, 1] > 5) + 0.02 * rng.standard_normal(len(xy))
    for centre in rng.uniform(-12, 12, (5, 2)):
        box = np.abs(xy - centre).max(1) < 1.5
        z[box] += rng.uniform(0.4, 1.5, box.sum())
    points = np.column_stack([xy + rng.uniform(-500, 500, 2), z])
    points = points[np.hypot(*xy.T) > rng.uniform(0, 8)]
    return torch.from_numpy(points).float()


def both(clouds, **options):
    coord = torch.cat(clouds)
    offset = torch.tensor([len(cloud) for cloud in clouds]).cumsum(0)
    return (
        device_ground_mask(coord, offset, **options),
        ground_mask(coord, offset, **options),
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"cell": 0.5, "window": 6.0, "height": 0.2}, {"cell": 2.0, "window": 1.0}],
)
def test_streets_have_the_ground_of_the_cpu(options):
    found, expected = both([street(seed) for seed in range(5)], **options)
    assert torch.equal(found, expected)
    assert 0.5 < found.float().mean() < 0.999


def test_clouds_that_are_empty_a_point_or_a_line():
    line = torch.zeros(40, 3)
    line[:, 1] = torch.arange(40) * 0.7
    line[:, 2] = 0.1 * line[:, 1] + 0.4 * (torch.arange(40) % 5 == 0)
    none, point = line[:0], line[:1] + 3
    clouds = [none, street(6), none, point, line, line[:, [1, 0, 2]], street(7), none]
    found, expected = both(clouds)
    assert torch.equal(found, expected)
    assert not found.all()
    for cloud in (none, point, line):
        assert torch.equal(*both([cloud]))
    diagonal = line + line[:, [1, 0, 2]] * torch.tensor([1.0, 1, 0])
    assert torch.equal(*both([diagonal]))
    empty = device_ground_mask(none, torch.zeros(0, dtype=torch.long))
    assert empty.shape == (0,)


def test_empty_cells_take_the_height_of_scipys_nearest(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 5000)
    rng = np.random.default_rng(0)
    grids = rng.random((4, 30, 40))
    for grid, share in zip(grids, (0.02, 0.1, 0.5, 0.95), strict=True):
        grid[rng.random(grid.shape) > share] = np.inf
    filled = module._fill(torch.from_numpy(grids)).numpy()
    for grid, found in zip(grids, filled, strict=True):
        nearest = ndimage.distance_transform_edt(
            np.isinf(grid), return_distances=False, return_indices=True
        )
        np.testing.assert_array_equal(found, grid[tuple(nearest)])


def test_a_gpu_is_waited_for_once():
    clouds = [street(8), street(9)]
    coord, offset = torch.cat(clouds), torch.tensor([len(clouds[0]), 0]).cumsum(0)
    offset[1] = len(coord)
    with watch() as waits:
        found = ground_mask(far(coord), far(offset), height=0.2)
    assert torch.equal(near(found), ground_mask(coord, offset, height=0.2))
    assert waits == {"ops/device_ground.py:device_ground_mask": {"copy to the host": 1}}
