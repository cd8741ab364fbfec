"""Components of neighbour lists, beside SciPy's."""

import pytest
import torch

from pointins_plugin.ops.components import connected_components
from pointins_plugin.ops.neighbour_components import neighbour_components


def by_scipy(neighbour, linked):
    source = torch.arange(len(neighbour))[:, None].expand_as(neighbour)
    edges = torch.stack([source[linked], neighbour[linked]])
    return connected_components(edges, len(neighbour))


def test_components_known_by_hand():
    neighbour = torch.tensor([[3], [-1], [4], [0], [0]])
    linked = torch.tensor([[True], [False], [True], [True], [False]])
    assert neighbour_components(neighbour, linked).tolist() == [0, 1, 2, 0, 2]


@pytest.mark.parametrize("num", [1, 2, 3, 17, 1000])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_random_graphs_are_those_of_scipy(num, share):
    generator = torch.Generator().manual_seed(num)
    for _ in range(5):
        neighbour = torch.randint(num, (num, 4), generator=generator)
        linked = torch.rand(num, 4, generator=generator) < share
        neighbour[~linked] = -1
        found = neighbour_components(neighbour, linked)
        assert torch.equal(found, by_scipy(neighbour, linked))


@pytest.mark.parametrize(
    "kind", ["chain", "reversed", "shuffled", "star", "alternating"]
)
def test_long_thin_graphs_need_no_more_rounds(kind):
    num = 3001
    path = torch.arange(num)
    if kind == "reversed":
        path = path.flip(0)
    elif kind == "shuffled":
        path = torch.randperm(num, generator=torch.Generator().manual_seed(0))
    elif kind == "alternating":  # every second is a minimum among its neighbours
        path = torch.cat([path[::2], path[1::2]]).argsort()
    neighbour = torch.full((num, 1), -1)
    neighbour[path[:-1], 0] = path[1:]
    if kind == "star":
        neighbour = torch.full((num, 1), num - 1)
    found = neighbour_components(neighbour, neighbour >= 0)
    assert torch.equal(found, torch.zeros(num, dtype=torch.long))


def test_no_points():
    empty = torch.zeros(0, 3, dtype=torch.long)
    assert len(neighbour_components(empty, empty.bool())) == 0
