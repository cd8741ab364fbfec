"""The offset branch: what becomes of the teacher's offsets before they are learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.host import LOSSES, MODELS, get_root_logger
from pointins_plugin.models.heads import OffsetHead
from pointins_plugin.ops.ground import ground_mask
from pointins_plugin.ops.neighbours import knn
from pointins_plugin.ops.planes import dominant_planes
from pointins_plugin.ops.segments import segment_ends
from pointins_plugin.priors import PriorBuffer, build_prior


@dataclass(frozen=True)
class OffsetTarget:
    """What the student's offsets are pulled to, in the origin frame.

    Attributes:
        shift: (N, 3) metres, per teacher token.
        mask: (N,) bool, tokens that have a target.
        label: (N,) pseudo-instance, -1 for none.
        plane: (N,) bool, tokens of dominant planes; None where planes take part.
    """

    shift: Tensor
    mask: Tensor
    label: Tensor
    plane: Tensor | None


@MODELS.register_module()
class OffsetBranch(nn.Module):
    """Turn teacher offsets into targets by ODR and SCR, and measure the student.

    Every row of the paper's component table is a setting: no branch (``PointINS``
    with ``offset_branch=None``); ``odr=None, scr=None`` the bare branch; either one;
    both; ``order=("scr", "odr")``; ``odr=dict(type="ODRLoss", mode="distribution")``
    ODR on the student.

    Args:
        prior: magnitude prior (``pointins_plugin.priors.build_prior``), metres. Its
            table is saved in the checkpoint and its median is the unit of length.
        hidden_channels: width of the head.
        odr: config of an ``ODRLoss`` or None.
        scr: config of an ``SCRLoss`` or None.
        loss: config of an ``OffsetLoss``.
        order: ``("odr", "scr")`` (paper) or ``("scr", "odr")``.
        loss_weight: lambda_off of the paper, 0.25.
        warmup_ratio: share of the schedule without the branch's loss, 0.1 in the
            paper.
        distribution_weight: factor of ODR's or SCR's loss on the student, where
            their mode is one.
        relative_position: give the head, for every up-cast level, the vector from
            the token to its coarse cell's centre, in token pitches. Not in the
            paper; small networks need it to place a centre.
        planes: keyword arguments of ``dominant_planes`` in token pitches
            (``threshold``) and shares; used where planes are excluded.
        exclude_planes: keep tokens of planes (or ground) out of the ranking and the
            loss where there is no SCR; one that is there says so itself.
        ground: keyword arguments of ``ops.ground.ground_points``, metres; outdoors,
            what is then excluded in place of planes, which take the sides of cars.
        num_neighbours: spatial neighbours found once for planes and SCR.

    Raises:
        ValueError: options that contradict each other.

    Source: PointINS, offset branch.
    """

    def __init__(
        self,
        prior: Any,
        hidden_channels: int = 256,
        odr: dict | None = None,
        scr: dict | None = None,
        loss: dict | None = None,
        order: tuple[str, str] = ("odr", "scr"),
        loss_weight: float = 0.25,
        warmup_ratio: float = 0.1,
        distribution_weight: float = 1.0,
        relative_position: bool = False,
        planes: dict | None = None,
        exclude_planes: bool = False,
        ground: dict | None = None,
        num_neighbours: int = 16,
    ):
        super().__init__()
        if sorted(order) != ["odr", "scr"]:
            raise ValueError(
                f"order must be ('odr', 'scr') or ('scr', 'odr'), found {order!r}"
            )
        self.prior = PriorBuffer(build_prior(prior))
        self.hidden_channels = hidden_channels
        self.odr = None if odr is None else LOSSES.build(odr)
        if scr is not None and "num_neighbours" in scr:
            raise ValueError(
                "num_neighbours stands in scr, but planes and SCR share the branch's: "
                "move it to offset_branch"
            )
        self.scr = None if scr is None else LOSSES.build(scr)
        self.loss = LOSSES.build({"type": "OffsetLoss"} if loss is None else loss)
        self.order = tuple(order)
        self.loss_weight = loss_weight
        self.warmup_ratio = warmup_ratio
        self.distribution_weight = distribution_weight
        self.relative_position = relative_position
        self.planes = {"threshold": 0.6, "min_share": 0.1, **(planes or {})}
        if self.scr is not None:
            if exclude_planes and not self.scr.exclude_planes:
                raise ValueError(
                    "exclude_planes stands beside scr, which says so itself: move it "
                    "to offset_branch.scr"
                )
            exclude_planes = self.scr.exclude_planes
        self.exclude_planes = exclude_planes
        self.ground = ground
        self.num_neighbours = num_neighbours
        self._configured = self.unit
        self.register_load_state_dict_post_hook(_tell_kept_prior)

    @property
    def unit(self) -> float:
        """The length that counts as one, metres: the prior's median."""
        return float(self.prior.median)

    def build_head(self, in_channels: int) -> nn.Module:
        """Return the head that student and teacher each own."""
        return OffsetHead(in_channels, self.hidden_channels)

    def is_on(self, progress: float) -> bool:
        """Whether the branch's loss counts at ``progress`` in [0, 1] of training."""
        return progress >= self.warmup_ratio

    @torch.no_grad()
    def targets(
        self,
        coord: Tensor,
        shift: Tensor,
        offset: Tensor,
        batch: Tensor,
        feature: Tensor,
        pitch: float,
        generator: torch.Generator | None = None,
        ends: Sequence[int] | None = None,
    ) -> OffsetTarget:
        """Make the targets of one batch of teacher views.

        Args:
            coord: (N, 3) token coordinates, metres, origin frame.
            shift: (N, 3) the teacher's offsets, metres, origin frame.
            offset: (B,) cumulative token counts of the views.
            batch: (N,) view of every token.
            feature: (N, C) the teacher's features.
            pitch: distance of neighbouring tokens, metres.
            generator: CPU generator of ties, rotations, planes and k-means.
            ends: ``offset`` as numbers; None reads it, for which a GPU waits.
        """
        # Autocast would round what normals, planes and clusters are told by.
        with torch.autocast(coord.device.type, enabled=False):
            coord, shift = coord.float(), shift.float()
            return self._targets(
                coord, shift, offset, batch, feature, pitch, generator, ends
            )

    def _targets(
        self, coord, shift, offset, batch, feature, pitch, generator, ends
    ) -> OffsetTarget:
        num_clouds = len(offset)
        plane = neighbour = None
        if self.exclude_planes or (
            self.scr is not None and self.scr.graph == "spatial"
        ):
            ends = segment_ends(offset if ends is None else ends)
            neighbour = knn(coord, self.num_neighbours, ends)
        if self.exclude_planes:
            plane = self._background(coord, offset, pitch, neighbour, generator)
        # None: all tokens take part.
        mask = None if plane is None else ~plane
        label = torch.full_like(batch, -1)
        for step in self.order:
            if step == "odr":
                shift = self._regularize(shift, batch, mask, generator, num_clouds)
            elif self.scr is not None:
                label = self.scr.pseudo_instances(
                    coord,
                    shift,
                    offset,
                    pitch,
                    self.unit,
                    feature=feature,
                    plane=plane,
                    neighbour=neighbour,
                    generator=generator,
                    ends=ends,
                )
                if self.scr.mode == "target":
                    shift, mask = self.scr.targets(
                        coord, label, shift, plane, num_labels=len(label)
                    )
        if mask is None:
            mask = torch.ones_like(batch, dtype=torch.bool)
        return OffsetTarget(shift=shift, mask=mask, label=label, plane=plane)

    def _background(self, coord, offset, pitch, neighbour, generator):
        """Return the tokens (N,) that belong to no thing: ground, or planes."""
        if self.ground is not None:
            return ground_mask(coord, offset, **self.ground)
        options = dict(self.planes)
        return dominant_planes(
            coord,
            offset,
            neighbour=neighbour,
            threshold=options.pop("threshold") * pitch,
            generator=generator,
            **options,
        )

    def _regularize(self, shift, batch, mask, generator, num_clouds):
        """Apply ODR's target mode to the tokens that take part in the ranking."""
        if self.odr is None or self.odr.mode != "target":
            return shift
        rows = slice(None) if mask is None else torch.nonzero(mask)[:, 0]
        regular = self.odr.regularize(
            shift[rows], batch[rows], self.prior, generator, num_clouds
        )
        return regular if mask is None else shift.index_copy(0, rows, regular)

    def forward(
        self,
        prediction: Tensor,
        coord: Tensor,
        target: OffsetTarget,
        teacher_coord: Tensor,
        same_view: Any,
        cross_view: Any,
        num_clouds: int,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Return the named losses of the student's offsets.

        Args:
            prediction: (N, 3) the student's offsets, metres, origin frame.
            coord: (N, 3) student token coordinates, metres, origin frame.
            target: the teacher's targets.
            teacher_coord: (T, 3) teacher token coordinates, origin frame.
            same_view, cross_view: matches of student and teacher tokens; None for
                the second where a scene has one view.
            num_clouds: number of views.
            generator: CPU generator.
        """
        losses = {}
        for name, match in (("same", same_view), ("cross", cross_view)):
            if match is None:
                losses[name] = torch.zeros_like(losses["same"])
                continue
            # Matched tokens are not at the same place: a centre is, so the target
            # vector is carried over by the difference of their coordinates.
            moved = teacher_coord[match.teacher] - coord[match.student]
            losses[name] = self.loss(
                prediction[match.student],
                target.shift[match.teacher] + moved,
                mask=target.mask[match.teacher],
                batch=match.batch,
                num_clouds=num_clouds,
                unit=self.unit,
            )
        total = losses["same"] + losses["cross"]
        if cross_view is not None:
            total = 0.5 * total
        batch = same_view.batch
        student = prediction[same_view.student]
        if self.odr is not None and self.odr.mode == "distribution":
            # Planes would take the lengths that the prior has for things.
            rows = slice(None)
            if target.plane is not None:
                rows = torch.nonzero(~target.plane[same_view.teacher])[:, 0]
            regular = self.odr(
                student[rows],
                batch=batch[rows],
                num_clouds=num_clouds,
                prior=self.prior,
                generator=generator,
            )
            total = total + self.distribution_weight * regular
        if self.scr is not None and self.scr.mode == "consistency":
            agree = self.scr(
                student,
                coord[same_view.student],
                target.label[same_view.teacher],
                batch=batch,
                num_clouds=num_clouds,
                unit=self.unit,
                num_labels=len(target.label),
            )
            total = total + self.distribution_weight * agree
        return {
            "offset_same_loss": losses["same"],
            "offset_cross_loss": losses["cross"],
            "offset_loss": total,
        }


def _tell_kept_prior(branch: OffsetBranch, _: Any) -> None:
    """Say where a checkpoint's prior takes the place of another that the config has."""
    configured, branch._configured = branch._configured, branch.unit
    if abs(branch.unit - configured) > 1e-3 * configured:
        get_root_logger().warning(
            f"offset_branch.prior: the checkpoint's is kept (median {branch.unit:.3g} "
            f"m), that of the config (median {configured:.3g} m) is not used; the "
            "head has learnt lengths in units of the former"
        )
