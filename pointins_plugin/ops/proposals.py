"""Instance proposals: shifted points grouped class by class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pointins_plugin.ops.components import group_points
from pointins_plugin.ops.mean_shift import mean_shift_modes
from pointins_plugin.ops.segments import segment_mean

GROUPINGS = ("components", "modes")


@dataclass(frozen=True)
class Proposals:
    """Disjoint instances of a batch of clouds.

    Attributes:
        label: (N,) long, the proposal of every point, -1 for none.
        classes: (K,) long.
        scores: (K,) mean probability of the class over a proposal's points.
    """

    label: Tensor
    classes: Tensor
    scores: Tensor

    def masks(self) -> Tensor:
        """Return the proposals as (K, N) bool: one byte a point and proposal."""
        number = torch.arange(len(self.classes), device=self.label.device)
        return self.label == number[:, None]


@torch.no_grad()
def propose_instances(
    centers: Tensor,
    probability: Tensor,
    ignore: tuple[int, ...],
    batch: Tensor | None = None,
    method: str = "components",
    radius: float = 0.03,
    bandwidth: float | None = None,
    min_size: int = 1,
) -> Proposals:
    """Group the predicted centres of points of one predicted class and cloud.

    Args:
        centers: (N, 3) shifted points, metres.
        probability: (N, C) of the classes.
        ignore: classes without instances; others than 0 ... C - 1 are passed over.
        batch: (N,) cloud of every point; None for one cloud.
        method: ``"components"`` (nearer than ``radius``, transitively, as PointGroup)
            or ``"modes"`` (mean shift of ``bandwidth``).
        radius: metres.
        bandwidth: metres; None for twice the radius.
        min_size: fewest points of a proposal.

    Returns:
        Proposals in order of first appearance; none where no point is a thing.

    Raises:
        ValueError: an unknown method.

    Source: PointGroup (Jiang et al., 2020), clustering of shifted coordinates.
    """
    if method not in GROUPINGS:
        raise ValueError(f"grouping must be one of {GROUPINGS}, found {method!r}")
    probability = probability.float()
    confidence, kind = probability.max(1)
    stuff = [index for index in ignore if 0 <= index < probability.shape[1]]
    thing = ~torch.isin(kind, torch.tensor(stuff, dtype=kind.dtype, device=kind.device))
    rows = torch.nonzero(thing)[:, 0]
    cloud = torch.zeros_like(kind) if batch is None else batch
    points, cloud, kind = centers[rows].float(), cloud[rows], kind[rows]
    if method == "components":
        group = group_points(points, radius, kind, cloud, min_size)
    else:
        # Every class of every cloud is a cloud of its own.
        apart = cloud * probability.shape[1] + kind
        width = 2 * radius if bandwidth is None else bandwidth
        group = _renumber(mean_shift_modes(points, width, apart, min_size))
    label = torch.full((len(centers),), -1, dtype=torch.long, device=centers.device)
    label[rows] = group
    inside = group >= 0
    num = int(group.max()) + 1 if len(group) else 0
    classes = kind.new_zeros(num)
    classes[group[inside]] = kind[inside]
    scores = segment_mean(confidence[rows][inside], group[inside], num)
    return Proposals(label, classes, scores)


def _renumber(group: Tensor) -> Tensor:
    """Number groups by first appearance; -1 stays."""
    inside = torch.nonzero(group >= 0)[:, 0]
    if not len(inside):
        return group
    values, index = torch.unique(group[inside], return_inverse=True)
    first = torch.full((len(values),), len(group), device=group.device)
    first.scatter_reduce_(0, index, inside, "amin")
    rank = torch.empty_like(first)
    rank[torch.argsort(first)] = torch.arange(len(first), device=group.device)
    result = group.clone()
    result[inside] = rank[index]
    return result
