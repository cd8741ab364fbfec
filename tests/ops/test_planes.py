"""Dominant planes: a table with things on it, a room's corner, clutter."""

import numpy as np
import pytest
import torch

from pointins_plugin.ops.planes import dominant_planes


def grid(u, v, pitch=0.02):
    """Points of a rectangle u by v, as two coordinates."""
    a, b = np.meshgrid(np.arange(0, u, pitch), np.arange(0, v, pitch), indexing="ij")
    return a.ravel(), b.ravel()


def box(corner, size, pitch=0.02):
    """The top and the sides of a box."""
    x, y, z = size
    a, b = grid(x, y, pitch)
    faces = [np.stack([a, b, np.full_like(a, z)], 1)]
    for axis, (u, v) in ((1, (x, z)), (0, (y, z))):
        a, b = grid(u, v, pitch)
        for level in (0, size[axis]):
            face = np.zeros((len(a), 3))
            face[:, 1 - axis], face[:, 2], face[:, axis] = a, b, level
            faces.append(face)
    return np.concatenate(faces) + corner


def scene(noise=0.002):
    x, y = grid(1.0, 0.8)
    table = np.stack([x, y, np.zeros_like(x)], 1)
    things = [
        box((0.2, 0.2, 0.01), (0.1, 0.15, 0.12)),
        box((0.6, 0.4, 0.01), (0.2, 0.1, 0.2)),
    ]
    points = np.concatenate([table, *things])
    truth = np.arange(len(points)) < len(table)
    points = points + np.random.default_rng(0).normal(size=points.shape) * noise
    return torch.from_numpy(points).float(), torch.from_numpy(truth)


def find(points, **options):
    options = {"generator": torch.Generator().manual_seed(0), **options}
    return dominant_planes(points, torch.tensor([len(points)]), **options)


def test_the_table_goes_and_things_stay():
    points, truth = scene()
    found = find(points, threshold=0.009)
    assert found[truth].float().mean() > 0.98
    assert found[~truth].float().mean() < 0.06


def test_turned_scenes_find_the_same_plane():
    points, truth = scene()
    turn = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    )[0]
    found = find(points @ turn.t() + 3, threshold=0.009)
    assert found[truth].float().mean() > 0.98
    assert found[~truth].float().mean() < 0.06


def test_three_planes_of_a_corner():
    u, v = grid(1.0, 1.0, 0.03)
    zero = np.zeros_like(u)
    walls = [np.stack(x, 1) for x in ((u, v, zero), (u, zero, v), (zero, u, v))]
    points = torch.from_numpy(np.concatenate(walls)).float()
    assert find(points, threshold=0.01).float().mean() > 0.97
    assert find(points, threshold=0.01, max_planes=1).float().mean() < 0.45


def test_a_small_share_is_not_dominant():
    points, _ = scene()
    found = find(points, threshold=0.009, min_share=0.9)
    assert not found.any()


def test_clouds_are_examined_alone_and_seeds_replay():
    points, truth = scene()
    both = torch.cat([points, points[~truth]])
    offset = torch.tensor([len(points), len(both)])
    runs = [
        dominant_planes(
            both, offset, threshold=0.009, generator=torch.Generator().manual_seed(3)
        )
        for _ in range(2)
    ]
    assert torch.equal(*runs)
    assert runs[0][: len(points)][truth].float().mean() > 0.98


@pytest.mark.parametrize("num", [0, 1, 2, 5])
def test_few_points_are_finite(num):
    points = torch.zeros(num, 3)
    assert find(points).shape == (num,)


def test_a_real_table_goes_and_objects_stay(mosd_dir):
    lost, left = [], []
    for folder in sorted((mosd_dir / "val").iterdir())[:4]:
        coord = np.load(folder / "coord.npy")
        thing = torch.from_numpy(np.load(folder / "instance.npy") >= 0)
        found = find(torch.from_numpy(coord), threshold=0.009)
        lost.append(found[thing].float().mean())
        left.append((~found)[~thing].float().mean())
    assert np.mean(lost) < 0.06
    assert np.mean(left) < 0.1
