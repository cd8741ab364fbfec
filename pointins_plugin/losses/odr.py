"""Offset Distribution Regularization (ODR)."""

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.host import LOSSES
from pointins_plugin.losses.checks import check_choice, check_counts
from pointins_plugin.losses.offset import mean_per_cloud, offset_distance
from pointins_plugin.ops.device import to_device
from pointins_plugin.ops.gather import first_generator, gather_rows
from pointins_plugin.ops.segments import segment_count
from pointins_plugin.priors import PriorBuffer, build_direction_prior, build_prior

DIRECTIONS = ("none", "axis", "random_rotation")


def empirical_quantile(
    values: Tensor,
    batch: Tensor | None = None,
    generator: torch.Generator | None = None,
    num_clouds: int | None = None,
) -> Tensor:
    """Return ``(rank - 0.5) / n`` of every value within its cloud.

    Equal values are ranked in random order: a stable sort would leak the order of
    the points into the targets.

    Args:
        values: (N,).
        batch: (N,) cloud of every value; None means one cloud.
        generator: CPU generator that breaks ties.
        num_clouds: a number above all of ``batch``; None asks, for which a GPU waits.

    Returns:
        (N,) float32 in the open interval (0, 1).

    Source: PointINS, probability integral transform.
    """
    num = len(values)
    shuffle = to_device(torch.randperm(num, generator=generator), values.device)
    order = shuffle[torch.argsort(values[shuffle], stable=True)]
    if batch is None:
        batch = torch.zeros(num, dtype=torch.long, device=values.device)
        count = torch.full((1,), num, device=values.device)
    else:
        order = order[torch.argsort(batch[order], stable=True)]
        if num_clouds is None:
            count = torch.bincount(batch)
        else:
            count = segment_count(batch, num_clouds)
    start = torch.cumsum(count, 0) - count
    rank = torch.empty(num, dtype=torch.long, device=values.device)
    rank[order] = torch.arange(num, device=values.device)
    rank = rank - start[batch]
    return (rank.float() + 0.5) / count[batch].float()


def random_rotations(num: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw rotations (num, 3, 3), uniform over SO(3), float32, from a CPU generator."""
    gauss = torch.randn(num, 3, 3, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gauss)
    q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1)).unsqueeze(-2)
    q[:, :, 0] *= torch.linalg.det(q).unsqueeze(-1)
    return q.float()


@torch.no_grad()
def regularize_offset(
    offset: Tensor,
    prior: PriorBuffer,
    direction: str = "axis",
    direction_prior: Any = None,
    rounds: int = 5,
    magnitude: bool = True,
    batch: Tensor | None = None,
    generator: torch.Generator | None = None,
    num_clouds: int | None = None,
) -> Tensor:
    """Give offsets the prior's length and direction distributions, keeping ranks.

    Lengths pass through ``F^-1((rank - 0.5) / n)``, the one-dimensional optimal
    transport map to the prior. Directions pass axis by axis through the same map to
    the direction prior and are normalised again, because the axis-wise transform
    leaves unit length and would violate the magnitude prior.

    Args:
        offset: (N, 3) metres, origin frame.
        prior: magnitude prior, any object with ``quantile(u)``.
        direction: ``"none"``, ``"axis"`` (the paper's x, y, z) or
            ``"random_rotation"`` (the axes of ``rounds`` random rotations in turn;
            a concentration off the axes survives the former, not the latter).
        direction_prior: object with ``quantile(axis, u)``; uniform on [-1, 1] when
            None. ``"random_rotation"`` knows the uniform sphere only.
        rounds: number of rotations; a tight cone has lost its mean after one, and
            the largest eigenvalue of its second moment (uniform: 1/3) is .39 after 5,
            .34 after 20.
        magnitude: whether lengths are regularised.
        batch: (N,) cloud of every point, when ranks are taken per cloud.
        generator: CPU generator for ties and rotations.
        num_clouds: see ``empirical_quantile``.

    Returns:
        (N, 3) float32. Zero vectors, which have no direction, stay zero.

    Source: PointINS, ODR; the normalisation and the random rotations are ours.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, found {direction!r}")
    with torch.autocast(offset.device.type, enabled=False):
        offset = offset.float()
        length = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
        unit = nn.functional.normalize(offset, dim=1, eps=torch.finfo().tiny)
        if direction == "axis":
            unit = _match_axes(unit, direction_prior, batch, generator, num_clouds)
        elif direction == "random_rotation":
            rotations = to_device(random_rotations(rounds, generator), offset.device)
            for rotation in rotations:
                turned = unit @ rotation.t()
                turned = _match_axes(turned, None, batch, generator, num_clouds)
                unit = turned @ rotation
        unit = torch.where(length > 0, unit, torch.zeros_like(unit))
        if magnitude:
            u = empirical_quantile(length[:, 0], batch, generator, num_clouds)
            length = prior.quantile(u).to(unit).unsqueeze(1)
        return unit * length


def _match_axes(unit, direction_prior, batch, generator, num_clouds) -> Tensor:
    matched = []
    for axis in range(3):
        u = empirical_quantile(unit[:, axis], batch, generator, num_clouds)
        if direction_prior is None:
            matched.append(2 * u - 1)
        else:
            matched.append(direction_prior.quantile(axis, u).to(unit))
    matched = torch.stack(matched, dim=1)
    # The middle of all three distributions (a cloud of one point) has no direction.
    matched = torch.where(matched.abs().amax(1, keepdim=True) > 0, matched, unit)
    return nn.functional.normalize(matched, dim=1, eps=1e-12)


def magnitude_distribution_loss(
    offset: Tensor,
    prior: PriorBuffer,
    unit: float,
    batch: Tensor | None = None,
    num_clouds: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the squared 1-D Wasserstein-2 distance of lengths to the prior.

    ``mean_i (M_(i) - F^-1((i - 0.5) / n))^2`` over sorted lengths, in squared units,
    per cloud and then averaged. Differentiable in ``offset`` (N, 3).
    """
    length = offset.square().sum(1)
    length = torch.where(length > 0, length, torch.ones_like(length)).sqrt() * (
        length > 0
    )
    with torch.no_grad():
        u = empirical_quantile(length, batch, generator, num_clouds)
        quantile = prior.quantile(u).to(length)
    return mean_per_cloud(((length - quantile) / unit).square(), batch, num_clouds)


def direction_distribution_loss(
    offset: Tensor,
    num_projections: int = 16,
    batch: Tensor | None = None,
    num_clouds: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the sliced Wasserstein-2 distance of directions to the uniform sphere.

    By Archimedes a projection of the uniform sphere on any axis is uniform on
    [-1, 1], so sorted projections are compared with its quantiles over random axes.
    Differentiable in ``offset`` (N, 3); zero vectors take no part.
    """
    axes = torch.randn(3, num_projections, generator=generator)
    axes = to_device(axes, offset.device).to(offset.dtype)
    axes = nn.functional.normalize(axes, dim=0)
    rows = torch.nonzero((offset != 0).any(dim=1))[:, 0]
    unit = nn.functional.normalize(offset[rows], dim=1, eps=1e-12)
    batch = None if batch is None else batch[rows]
    total = offset.sum() * 0
    for projection in (unit @ axes).unbind(dim=1):
        with torch.no_grad():
            u = empirical_quantile(projection, batch, generator, num_clouds)
            quantile = 2 * u - 1
        error = (projection - quantile.to(projection)).square()
        total = total + mean_per_cloud(error, batch, num_clouds)
    return total / num_projections


@LOSSES.register_module()
class ODRLoss(nn.Module):
    """Keep offsets to a long-tailed length and a direction distribution.

    ``mode="target"`` (the paper): ``regularize`` maps the teacher's offsets onto the
    priors without gradient, and ``forward(student, teacher)`` is the offset distance
    between the student and that target. ``mode="distribution"``: a differentiable
    loss on the student's own offsets, Wasserstein-2 of lengths plus sliced
    Wasserstein-2 of directions; the paper's ablation "ODR on the student".

    Args:
        mode: ``"target"`` or ``"distribution"``.
        direction: ``"axis"`` (paper), ``"none"`` or ``"random_rotation"``.
        rounds: rotations of ``"random_rotation"``.
        magnitude: whether lengths are regularised.
        scope: ``"cloud"`` ranks within each cloud, ``"batch"`` within the batch of all
            processes. The paper does not say.
        num_projections: random axes of the sliced distance.
        prior: magnitude prior or its config (``pointins_plugin.priors.build_prior``);
            ``PointINS`` hands over its own when None.
        direction_prior: direction prior or its config, in ``"target"`` mode by
            ``"axis"``; uniform sphere when None, and always elsewhere.

    Raises:
        ValueError: no such choice, or a direction prior where none is used.

    Source: PointINS, section on ODR.
    """

    def __init__(
        self,
        mode: str = "target",
        direction: str = "axis",
        rounds: int = 5,
        magnitude: bool = True,
        scope: str = "cloud",
        num_projections: int = 16,
        prior: Any = None,
        direction_prior: Any = None,
    ):
        super().__init__()
        check_choice("mode", mode, ("target", "distribution"))
        check_choice("direction", direction, DIRECTIONS)
        check_choice("scope", scope, ("cloud", "batch"))
        check_counts(rounds=rounds, num_projections=num_projections)
        self.mode = mode
        self.direction = direction
        self.rounds = rounds
        self.magnitude = magnitude
        self.scope = scope
        self.num_projections = num_projections
        self.prior = None if prior is None else PriorBuffer(build_prior(prior))
        self.direction_prior = None
        if direction_prior is not None:
            self.direction_prior = build_direction_prior(direction_prior)
            if self.direction_prior.kind == "none":
                self.direction = "none"
            elif direction == "none":
                raise ValueError(
                    "direction='none' leaves directions alone and has no use for "
                    "direction_prior: leave it out, or take direction='axis'"
                )
            elif self.direction_prior.kind == "empirical" and (
                mode != "target" or direction == "random_rotation"
            ):
                raise ValueError(
                    f"mode={mode!r}, direction={direction!r} know the uniform sphere "
                    "only: leave direction_prior out, or take 'target' and 'axis'"
                )

    def regularize(
        self,
        offset: Tensor,
        batch: Tensor | None = None,
        prior: PriorBuffer | None = None,
        generator: torch.Generator | None = None,
        num_clouds: int | None = None,
    ) -> Tensor:
        """Return the target O~ (N, 3) of teacher offsets (N, 3), origin frame."""
        own = slice(None)
        if self.scope == "batch":
            generator = first_generator(generator, offset.device)
            offset, own = gather_rows(offset.detach())
            batch = None
        return regularize_offset(
            offset,
            self._prior(prior),
            direction=self.direction,
            direction_prior=self.direction_prior,
            rounds=self.rounds,
            magnitude=self.magnitude,
            batch=batch,
            generator=generator,
            num_clouds=num_clouds,
        )[own]

    def forward(
        self,
        student: Tensor,
        teacher: Tensor | None = None,
        batch: Tensor | None = None,
        num_clouds: int | None = None,
        prior: PriorBuffer | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the loss of student offsets (N, 3); ``"target"`` needs the teacher's.

        Lengths count in units of the prior's median in both modes.
        """
        prior = self._prior(prior)
        unit = float(prior.median)
        if self.mode == "target":
            if teacher is None:
                raise ValueError("ODRLoss(mode='target') needs the teacher's offsets")
            target = self.regularize(teacher, batch, prior, generator, num_clouds)
            distance = offset_distance(student, target, unit)
            return mean_per_cloud(distance, batch, num_clouds)
        if self.scope == "batch":
            batch, num_clouds = None, None
            generator = first_generator(generator, student.device)
            student, _ = gather_rows(student)
        with torch.autocast(student.device.type, enabled=False):
            student = student.float() if student.dtype.itemsize < 4 else student
            loss = student.sum() * 0
            if self.magnitude:
                loss = loss + magnitude_distribution_loss(
                    student, prior, unit, batch, num_clouds, generator
                )
            if self.direction != "none":
                loss = loss + direction_distribution_loss(
                    student, self.num_projections, batch, num_clouds, generator
                )
            return loss

    def _prior(self, prior):
        prior = self.prior if self.prior is not None else prior
        if prior is None:
            raise ValueError("ODRLoss has no magnitude prior: give it prior=dict(...)")
        return prior
