"""Connected components of graphs, without leaving or waiting for a GPU."""

import torch
from torch import Tensor


@torch.no_grad()
def neighbour_components(neighbour: Tensor, linked: Tensor) -> Tensor:
    """Return the components of points that are linked to some of their neighbours.

    Args:
        neighbour: (N, k) long, any value where not linked.
        linked: (N, k) bool; a link counts in both directions.

    Returns:
        (N,) long, numbered in order of first appearance; see ``edge_components``.
    """
    index = torch.arange(len(neighbour), device=neighbour.device)[:, None]
    target = torch.where(linked, neighbour, index).reshape(-1)
    source = index.expand_as(linked).reshape(-1)
    return edge_components(source, target, len(neighbour))


@torch.no_grad()
def edge_components(source: Tensor, target: Tensor, num: int) -> Tensor:
    """Return the components of the nodes of an undirected graph.

    Every round each component hooks on to a neighbouring one: on to the least that is
    below it or, where none is and none hooked on to it, on to the least of all. The
    latter are no neighbours of each other, so that no ring closes, and every component
    that has a neighbour grows: their number halves. The rounds, and the jumps that
    make roots of parents, are therefore bounded by the number of nodes alone, and
    nothing need be asked of the device.

    Args:
        source, target: (E,) long, the ends of the edges; one from a node to itself
            counts for nothing.
        num: N nodes.

    Returns:
        (N,) long, numbered in order of first appearance.

    Source: Awerbuch and Shiloach (1987), with a bound in place of their test.
    """
    device = source.device
    if num == 0:
        return torch.zeros(0, dtype=torch.long, device=device)
    index = torch.arange(num, device=device)
    rounds = (num - 1).bit_length()
    root = index
    for _ in range(rounds):
        first, second = root[source], root[target]
        inside = first == second
        least = torch.full_like(index, num)
        least.scatter_reduce_(0, first, second.masked_fill(inside, num), "amin")
        least.scatter_reduce_(0, second, first.masked_fill(inside, num), "amin")
        below = least < index
        hooked = torch.zeros(num + 1, dtype=torch.bool, device=device)
        hooked.scatter_(0, torch.where(below, least, num), True)
        alone = (least < num) & ~below & ~hooked[:num]
        parent = torch.where(below | alone, least, index)
        for _ in range(rounds):
            parent = parent[parent]
        root = parent[root]
    first = torch.full_like(index, num).scatter_reduce_(0, root, index, "amin")[root]
    return (torch.cumsum(first == index, 0) - 1)[first]
