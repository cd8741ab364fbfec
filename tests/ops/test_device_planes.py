"""Planes found in rounds of fixed number, beside the search of the CPU."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from waits import far, near, watch

from pointins_plugin.ops import device_planes as module
from pointins_plugin.ops.device_planes import device_planes
from pointins_plugin.ops.neighbours import knn
from pointins_plugin.ops.normals import neighbour_normals
from pointins_plugin.ops.planes import _AGREE, dominant_planes


def rectangle(rng, corner, first, second, num):
    share = rng.random((num, 2))
    return corner + share[:, :1] * first + share[:, 1:] * second


def room(seed, num=1200):
    """A floor, two walls and boxes on the floor; 3 mm of noise."""
    rng = np.random.default_rng(seed)
    size = np.diag([*rng.uniform(3, 6, 2), 2.6])
    parts = [
        rectangle(rng, np.zeros(3), size[a], size[b], num) for a, b in ((0, 1), (0, 2))
    ]
    parts.append(rectangle(rng, np.zeros(3), size[1], size[2], num // 2))
    for _ in range(rng.integers(2, 6)):
        edge = np.diag(rng.uniform(0.3, 0.9, 3))
        corner = np.array([*rng.uniform(0, 2, 2), 0])
        for a in range(3):
            for level in (corner, corner + edge[a - 1]):
                face = rectangle(rng, level, edge[a], edge[(a + 1) % 3], num // 15)
                parts.append(face)
    points = np.concatenate(parts)
    points += rng.normal(size=points.shape) * 0.003
    return torch.from_numpy(points).float()


def normals(points):
    """Of either sign: which way a plane faces is not known."""
    normal = neighbour_normals(points, knn(points, 16, torch.tensor([len(points)])))
    generator = torch.Generator().manual_seed(0)
    return normal * (torch.rand(len(points), 1, generator=generator) - 0.5).sign()


def both(clouds, threshold=0.02, min_share=0.1, rounds=6):
    """Return the marks of either path on the same draws."""
    normal = [normals(cloud) for cloud in clouds]
    expected, draws = [], []
    for seed, cloud in enumerate(clouds):
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        expected.append(
            dominant_planes(
                cloud,
                torch.tensor([len(cloud)]),
                normal[seed],
                threshold=threshold,
                min_share=min_share,
                max_planes=rounds,
                generator=generators[0],
            )
        )
        draws.append(torch.rand(rounds, 64, generator=generators[1]))
    found = device_planes(
        torch.cat(clouds),
        torch.tensor([len(cloud) for cloud in clouds]).cumsum(0),
        torch.cat(normal),
        torch.stack(draws, 1),
        threshold,
        min_share,
        _AGREE,
    )
    return found, torch.cat(expected)


@pytest.mark.parametrize(
    ("threshold", "min_share"), [(0.02, 0.1), (0.05, 0.03), (0.01, 0.25)]
)
def test_rooms_are_marked_as_on_the_cpu(threshold, min_share):
    clouds = [room(seed) for seed in range(6)]
    found, expected = both(clouds, threshold, min_share)
    assert torch.equal(found, expected)
    assert 0.2 < found.float().mean() < 1


def test_rounds_end_where_those_of_the_cpu_do():
    for rounds in (0, 1, 2, 3):
        found, expected = both([room(7), room(8)], rounds=rounds)
        assert torch.equal(found, expected)
    assert torch.equal(*both([room(9)], min_share=0.9))


def test_a_batch_with_clouds_of_few_points_one_plane_and_none():
    rng = np.random.default_rng(0)
    flat = torch.from_numpy(rng.random((300, 3)) * [1, 1, 0]).float()
    ball = torch.from_numpy(rng.normal(size=(500, 3))).float()
    few = [flat[:num] + 1 for num in (0, 1, 2, 3)]
    clouds = [few[0], room(1), few[1], few[0], flat, few[2], ball, few[3], few[0]]
    found, expected = both(clouds, min_share=0.15)
    assert torch.equal(found, expected)
    marks = found.split([len(cloud) for cloud in clouds])
    assert marks[4].all()
    assert not marks[6].any()
    for cloud in (*few, flat, ball):
        assert torch.equal(*both([cloud], min_share=0.15))


def test_no_clouds_and_identical_points():
    empty = torch.zeros(0, 3)
    draws = torch.zeros(6, 0, 64)
    offset = torch.zeros(0, dtype=torch.long)
    found = device_planes(empty, offset, empty, draws, 0.02, 0.1, _AGREE)
    assert found.shape == (0,)
    # without a direction the two may answer differently; both have to answer
    for found in both([torch.ones(50, 3)]):
        assert found.shape == (50,)
        assert found.dtype == torch.bool


def test_a_second_fit_is_made_of_three_points_or_more():
    """Nearly on a line, so that the first fit faces aside and holds none of them."""
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0.01], [2, 0, 0]])
    normal = torch.tensor([[0.0, 0, 1]]).expand(3, 3)
    offset, draws = torch.tensor([3]), torch.zeros(2, 1, 4)
    found = device_planes(points, offset, normal, draws, 0.02, 0.1, _AGREE)
    assert not found.any()
    assert torch.equal(found, dominant_planes(points, offset, normal))


def test_hypotheses_by_parts(monkeypatch):
    clouds = [room(2), room(3)]
    whole, _ = both(clouds)
    monkeypatch.setattr(module, "_AT_ONCE", 10 * sum(map(len, clouds)))
    assert torch.equal(both(clouds)[0], whole)


def test_a_gpu_is_not_waited_for():
    cloud = room(4)
    offset, normal = torch.tensor([len(cloud)]), normals(cloud)
    options = {"threshold": 0.02, "min_share": 0.05}
    expected = dominant_planes(
        cloud, offset, normal, generator=torch.Generator().manual_seed(5), **options
    )
    with watch() as waits:
        found = dominant_planes(
            far(cloud),
            far(offset),
            far(normal),
            generator=torch.Generator().manual_seed(5),
            **options,
        )
    assert waits == {}
    assert torch.equal(near(found), expected)
    neighbour = knn(cloud, 16, offset)
    with watch() as waits:
        dominant_planes(far(cloud), far(offset), neighbour=far(neighbour), **options)
    assert waits == {}
