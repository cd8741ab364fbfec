"""Spatial Clustering Regularization (SCR)."""

from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.host import LOSSES
from pointins_plugin.losses.checks import check_choice, check_counts
from pointins_plugin.losses.offset import mean_per_cloud, offset_distance
from pointins_plugin.ops.components import connected_components, group_points
from pointins_plugin.ops.device import on_gpu
from pointins_plugin.ops.kmeans import kmeans
from pointins_plugin.ops.neighbour_components import neighbour_components
from pointins_plugin.ops.neighbours import knn
from pointins_plugin.ops.segments import (
    segment_count,
    segment_ends,
    segment_index,
    segment_max,
    segment_mean,
)


@torch.no_grad()
def feature_segments(
    feature: Tensor,
    batch: Tensor,
    num_segments: int,
    generator: torch.Generator | None = None,
    ends: Sequence[int] | None = None,
) -> Tensor:
    """Cut each cloud into class-like segments by k-means on normalised features.

    Args:
        feature: (N, C) teacher features, sorted by cloud.
        batch: (N,) cloud of every point, non-decreasing.
        num_segments: K (20 in the paper).
        generator: CPU generator of the seeding.
        ends: (B,) cumulative counts of the clouds; None asks, for which a GPU waits.

    Returns:
        (N,) segment of every point, distinct over clouds.

    Source: PointINS, SCR, step one. Rows are normalised: features are compared by
    direction everywhere else in the method.
    """
    feature = nn.functional.normalize(feature.float(), dim=1)
    if ends is None:
        ends = torch.bincount(batch).cumsum(0).tolist()
    segments = [
        kmeans(feature[start:end], num_segments, generator=generator)
        + index * num_segments
        for index, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]
    return torch.cat(segments) if segments else batch


@torch.no_grad()
def spatial_components(
    coord: Tensor,
    centre: Tensor,
    offset: Tensor | Sequence[int],
    radius: float | None,
    num_neighbours: int = 16,
    segment: Tensor | None = None,
    keep: Tensor | None = None,
    neighbour: Tensor | None = None,
    max_edge: float | None = None,
) -> Tensor:
    """Connect spatial neighbours whose shifted centres agree.

    Args:
        coord: (N, 3) metres, origin frame.
        centre: (N, 3) shifted points ``x + o``.
        offset: (B,) cumulative counts; numbers, or a tensor, for which a GPU waits.
        radius: largest distance of two agreeing centres, metres; None: all agree.
        num_neighbours: spatial neighbours of a point.
        segment: (N,) only points of one segment are connected.
        keep: (N,) bool, the nodes; others get -1.
        neighbour: (N, k) precomputed spatial neighbours, -1 padded.
        max_edge: largest distance of two neighbours, metres; None for no limit. The
            nearest points of a sparse spot may lie on another thing.

    Returns:
        (N,) component of every point, -1 outside ``keep``.

    Source: ours (method notes: the graph on centres fragments while features are
    not yet class-like).
    """
    if neighbour is None:
        neighbour = knn(coord, num_neighbours, offset)
    target = neighbour.clamp(min=0)
    agree = neighbour >= 0
    for place, limit in ((centre, radius), (coord, max_edge)):
        if limit is not None:
            agree &= (place[target] - place[:, None]).square().sum(-1) < limit**2
    if segment is not None:
        agree &= segment[target] == segment[:, None]
    if keep is not None:
        agree &= keep[target] & keep[:, None]
    label = _linked_components(target, agree)
    return label if keep is None else torch.where(keep, label, -1)


def _centre_components(centre, radius, segment, batch, keep) -> Tensor:
    """Return the components (N,) of centres within a radius, -1 outside ``keep``."""
    if keep is None:
        return group_points(centre, radius, labels=segment, batch=batch)
    nodes = torch.nonzero(keep)[:, 0]
    found = group_points(
        centre[nodes],
        radius,
        labels=None if segment is None else segment[nodes],
        batch=batch[nodes],
    )
    return torch.full_like(batch, -1).index_copy_(0, nodes, found)


def _linked_components(target: Tensor, linked: Tensor) -> Tensor:
    """Return the components of links (N, k), the same on CPU and GPU."""
    if on_gpu(linked):  # which would wait for the number of edges
        return neighbour_components(target, linked)
    source = torch.arange(len(target))[:, None].expand_as(target)
    edges = torch.stack([source[linked], target[linked]])
    return connected_components(edges, len(target))


@torch.no_grad()
def select_components(
    label: Tensor,
    coord: Tensor,
    min_size: int = 1,
    drop_huge: float | None = None,
    num_labels: int | None = None,
) -> Tensor:
    """Drop components that are too small or reach too far, and renumber the rest.

    Args:
        label: (N,) component of every point, -1 for none.
        coord: (N, 3) metres.
        min_size: fewest points of a component.
        drop_huge: largest distance of a point from its component's centroid, metres;
            None keeps all. Touching objects merge into components that are too large
            to be one thing: their targets would be wrong, so there are none.
        num_labels: a number above all labels; None asks, for which a GPU waits.

    Returns:
        (N,) consecutive components, -1 for points of none.
    """
    if not len(label):
        return label
    slot = label + 1
    num = _num_slots(slot, num_labels)
    good = segment_count(slot, num) >= min_size
    good[0] = False
    if drop_huge is not None:
        centroid = segment_mean(coord, slot, num)
        reach = segment_max((coord - centroid[slot]).square().sum(1), slot, num)
        good &= reach <= drop_huge**2
    renumbered = torch.where(good, torch.cumsum(good.long(), 0) - 1, -1)
    return renumbered[slot]


def _num_slots(slot: Tensor, num_labels: int | None) -> int:
    return int(slot.max()) + 1 if num_labels is None else num_labels + 1


@torch.no_grad()
def pseudo_targets(
    coord: Tensor, label: Tensor, num_labels: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the offsets to the centroids of pseudo-instances.

    ``O*_i = mean of the real coordinates of i's pseudo-instance - x_i``, so that
    targets sum to zero in each.

    Args:
        coord: (N, 3) metres, origin frame.
        label: (N,) pseudo-instance of every point, -1 for none.
        num_labels: a number above all labels; None asks, for which a GPU waits.

    Returns:
        (N, 3) targets, zero where there is none, and (N,) bool, where there is one.

    Source: PointINS, SCR, last step.
    """
    has_target = label >= 0
    if not len(label):
        return torch.zeros_like(coord), has_target
    slot = label + 1
    centroid = segment_mean(coord, slot, _num_slots(slot, num_labels))
    target = torch.where(has_target[:, None], centroid[slot] - coord, 0.0)
    return target, has_target


@LOSSES.register_module()
class SCRLoss(nn.Module):
    """Make the points of a pseudo-instance agree on its centre.

    The defaults are the paper's: k-means segments of the teacher's features, a radius
    graph on the shifted centres, components too small fall back to ODR's target. The
    *spatial* preset of the small-data configs is spelled out there.

    ``mode="target"``: ``forward`` is the offset distance of the student to the
    targets. ``mode="consistency"``: inside a pseudo-instance the student's own
    centres ``x + o`` are pulled to their mean, with the gradient on the student.

    Args:
        mode: ``"target"`` or ``"consistency"``.
        graph: ``"centre"``: centres nearer than ``radius`` are connected (exact, never
            capped to k neighbours: duplicates would shatter). ``"spatial"``: spatial
            neighbours whose centres are nearer than ``radius``.
        segments: ``"kmeans"`` or ``"none"``: components stay inside a segment.
        num_segments: K of k-means.
        radius: in token pitches; None: the spatial graph asks no centres.
        num_neighbours: spatial neighbours of the spatial graph; inside a branch
            they are the branch's (``OffsetBranch``).
        max_edge: longest edge of the spatial graph in token pitches, None for no limit.
        min_size: fewest tokens of a pseudo-instance; the paper's number is unknown.
        drop_huge: largest reach of a pseudo-instance in medians of the magnitude
            prior, None for no limit.
        fallback: what tokens without a pseudo-instance learn: ``"odr"`` the
            regularised offset, ``"none"`` nothing.
        exclude_planes: keep tokens of dominant planes out of the graph and the loss.

    Source: PointINS, section on SCR; the switches are ours.
    """

    def __init__(
        self,
        mode: str = "target",
        graph: str = "centre",
        segments: str = "kmeans",
        num_segments: int = 20,
        radius: float | None = 1.5,
        num_neighbours: int = 16,
        max_edge: float | None = None,
        min_size: int = 5,
        drop_huge: float | None = None,
        fallback: str = "odr",
        exclude_planes: bool = False,
    ):
        super().__init__()
        check_choice("mode", mode, ("target", "consistency"))
        check_choice("graph", graph, ("centre", "spatial"))
        check_choice("segments", segments, ("kmeans", "none"))
        check_choice("fallback", fallback, ("odr", "none"))
        check_counts(
            num_segments=num_segments, num_neighbours=num_neighbours, min_size=min_size
        )
        if radius is None and graph == "centre":
            raise ValueError("SCRLoss(graph='centre') needs a radius, in pitches")
        for name, value in (("radius", radius), ("max_edge", max_edge)):
            if value is not None and not value > 0:
                raise ValueError(f"SCRLoss needs {name} > 0 pitches, found {value}")
        self.mode = mode
        self.graph = graph
        self.segments = segments
        self.num_segments = num_segments
        self.radius = radius
        self.num_neighbours = num_neighbours
        self.max_edge = max_edge
        self.min_size = min_size
        self.drop_huge = drop_huge
        self.fallback = fallback
        self.exclude_planes = exclude_planes

    @torch.no_grad()
    def pseudo_instances(
        self,
        coord: Tensor,
        shift: Tensor,
        offset: Tensor,
        pitch: float,
        unit: float,
        feature: Tensor | None = None,
        plane: Tensor | None = None,
        neighbour: Tensor | None = None,
        generator: torch.Generator | None = None,
        ends: Sequence[int] | None = None,
    ) -> Tensor:
        """Group tokens into pseudo-instances.

        Args:
            coord: (N, 3) token coordinates, metres, origin frame, sorted by cloud.
            shift: (N, 3) the teacher's (regularised) offsets, origin frame.
            offset: (B,) cumulative counts of the clouds.
            pitch: distance of neighbouring tokens, metres.
            unit: median of the magnitude prior, metres.
            feature: (N, C) teacher features, for ``segments="kmeans"``.
            plane: (N,) bool, tokens of dominant planes, for ``exclude_planes``.
            neighbour: (N, k) precomputed spatial neighbours.
            generator: CPU generator of k-means.
            ends: ``offset`` as numbers; None reads it, for which a GPU waits.

        Returns:
            (N,) pseudo-instance, distinct over clouds, -1 for none.
        """
        coord, shift = coord.float(), shift.float()
        centre = coord + shift
        batch = segment_index(offset, len(coord))
        keep = ~plane if self.exclude_planes and plane is not None else None
        segment = None
        if self.segments == "kmeans":
            if feature is None:
                raise ValueError("SCRLoss(segments='kmeans') needs features")
            ends = segment_ends(offset if ends is None else ends)
            segment = feature_segments(
                feature, batch, self.num_segments, generator, ends
            )
        radius = None if self.radius is None else self.radius * pitch
        if self.graph == "spatial":
            label = spatial_components(
                coord,
                centre,
                offset if ends is None else ends,
                radius,
                num_neighbours=self.num_neighbours,
                segment=segment,
                keep=keep,
                neighbour=neighbour,
                max_edge=None if self.max_edge is None else self.max_edge * pitch,
            )
        else:
            label = _centre_components(centre, radius, segment, batch, keep)
        drop_huge = None if self.drop_huge is None else self.drop_huge * unit
        # Components are consecutive: there are no more of them than tokens.
        return select_components(
            label, coord, self.min_size, drop_huge, num_labels=len(label)
        )

    @torch.no_grad()
    def targets(
        self,
        coord: Tensor,
        label: Tensor,
        shift: Tensor,
        plane: Tensor | None = None,
        num_labels: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return O* (N, 3) and where it is defined (N,), falling back as configured.

        Args:
            coord: (N, 3) metres, origin frame.
            label: (N,) pseudo-instances, -1 for none.
            shift: (N, 3) regularised offsets O~, the fall-back ``"odr"``.
            plane: (N,) bool, tokens that never get a target under
                ``exclude_planes``.
            num_labels: a number above all labels, see ``pseudo_targets``.
        """
        target, has_target = pseudo_targets(coord.float(), label, num_labels)
        if self.fallback == "odr":
            target = torch.where(has_target[:, None], target, shift.float())
            has_target = torch.ones_like(has_target)
            if self.exclude_planes and plane is not None:
                has_target = ~plane
        return target, has_target

    def forward(
        self,
        student: Tensor,
        coord: Tensor,
        label: Tensor,
        shift: Tensor | None = None,
        batch: Tensor | None = None,
        num_clouds: int | None = None,
        unit: float = 1.0,
        plane: Tensor | None = None,
        num_labels: int | None = None,
    ) -> Tensor:
        """Return the loss of student offsets (N, 3) given pseudo-instances (N,).

        ``shift`` (N, 3) is the teacher's regularised offset, needed by the fall-back
        ``"odr"``; ``unit`` (metres) is the length that counts as one; ``num_labels``
        is above all labels, see ``pseudo_targets``.

        Raises:
            ValueError: there is no ``shift`` to fall back to.
        """
        if self.mode == "consistency":
            return consistency_loss(
                student, coord, label, unit, batch, num_clouds, num_labels
            )
        if shift is None:
            if self.fallback == "odr":
                raise ValueError(
                    "SCRLoss(fallback='odr') needs shift, the teacher's offsets"
                )
            shift = torch.zeros_like(student)
        target, has_target = self.targets(coord, label, shift, plane, num_labels)
        distance = offset_distance(student, target, unit)
        return mean_per_cloud(distance, batch, num_clouds, has_target)


def consistency_loss(
    student: Tensor,
    coord: Tensor,
    label: Tensor,
    unit: float = 1.0,
    batch: Tensor | None = None,
    num_clouds: int | None = None,
    num_labels: int | None = None,
) -> Tensor:
    """Return the mean L1 distance of predicted centres to their instance's mean.

    Args:
        student: (N, 3) predicted offsets, metres.
        coord: (N, 3) metres, the same frame.
        label: (N,) pseudo-instance, -1 takes no part.
        unit: length that counts as one, metres.
        batch, num_clouds: cloud of every point, for the mean per cloud.
        num_labels: a number above all labels; None asks, for which a GPU waits.

    Returns:
        A scalar, differentiable in ``student``; the mean moves with the student, so
        that the loss is zero exactly where an instance agrees, wherever its centre is.
    """
    with torch.autocast(student.device.type, enabled=False):
        student = student.float() if student.dtype.itemsize < 4 else student
        if not len(label):
            return student.sum() * 0
        centre = coord.to(student.dtype) + student
        slot = label + 1
        mean = segment_mean(centre, slot, _num_slots(slot, num_labels))
        distance = (centre - mean[slot]).abs().sum(1) / unit
        return mean_per_cloud(distance, batch, num_clouds, label >= 0)
