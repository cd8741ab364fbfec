"""Panoptic segments from class probabilities and predicted centres."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pointins_plugin.ops.proposals import propose_instances
from pointins_plugin.ops.segments import segment_mean


@dataclass(frozen=True)
class Panoptic:
    """One class and at most one instance for every point of a batch of clouds.

    Attributes:
        segment: (N,) long, the class.
        instance: (N,) long, the instance, -1 for none; numbers run over the batch.
        classes: (K,) long, of the instances, all of them things.
        scores: (K,) mean probability of the class over an instance's points.
    """

    segment: Tensor
    instance: Tensor
    classes: Tensor
    scores: Tensor


@torch.no_grad()
def merge_panoptic(
    centers: Tensor,
    probability: Tensor,
    stuff: tuple[int, ...],
    batch: Tensor | None = None,
    method: str = "components",
    radius: float = 0.5,
    bandwidth: float | None = None,
    min_size: int = 1,
) -> Panoptic:
    """Group things by their predicted centres and let each group choose its class.

    1. The class of a point is its most likely one.
    2. Points of thing classes are grouped by their centres, whatever thing they are:
       a van half taken for a car stays whole.
    3. A group of ``min_size`` points is an instance. Its class is that of most of its
       points, the more probable one where there are equally many, and becomes that of
       all its points.
    4. Points of smaller groups keep their class and have no instance; so does stuff.

    Args:
        centers: (N, 3) shifted points, metres.
        probability: (N, C) of the classes.
        stuff: classes without instances; others than 0 ... C - 1 are passed over.
        batch: (N,) cloud of every point; None for one cloud.
        method, radius, bandwidth: as in ``propose_instances``.
        min_size: fewest points of an instance.

    Raises:
        ValueError: an unknown method.

    Source: the majority vote is that of Panoptic-PolarNet (Zhou et al., 2021).
    """
    probability = probability.float()
    num_classes = probability.shape[1]
    segment = probability.argmax(1)
    is_stuff = torch.zeros(num_classes, dtype=torch.bool, device=segment.device)
    is_stuff[[index for index in stuff if 0 <= index < num_classes]] = True
    thing = ~is_stuff[segment]
    # two columns, so that all things are one class
    kind = torch.stack([~thing, thing], dim=1).float()
    instance = propose_instances(
        centers, kind, (0,), batch, method, radius, bandwidth, min_size
    ).label
    rows = torch.nonzero(instance >= 0)[:, 0]
    group = instance[rows]
    num = int(group.max()) + 1 if len(group) else 0
    votes = torch.bincount(
        group * num_classes + segment[rows], minlength=num * num_classes
    ).view(num, num_classes)
    mean = segment_mean(probability[rows], group, num)
    # a mean is below 1, so that it only decides where votes are equal
    chosen = votes.masked_fill(is_stuff, -1) + 0.5 * mean.masked_fill(is_stuff, 0)
    classes = chosen.argmax(1)
    segment[rows] = classes[group]
    scores = mean.gather(1, classes[:, None])[:, 0]
    return Panoptic(segment, instance, classes, scores)
