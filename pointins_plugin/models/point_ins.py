"""PointINS: a teacher-student trunk with a semantic objective and an offset branch."""

import copy
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import (
    MODELS,
    Point,
    PointModel,
    build_model,
    offset2batch,
    offset2bincount,
)
from pointins_plugin.models.objectives import Match, linear_warmup
from pointins_plugin.models.tokens import (
    block_mask,
    grid_coordinates,
    input_to_token,
    token_stride,
    up_cast,
)
from pointins_plugin.ops.affine import fit_affine, inverse_linear, transform_vectors
from pointins_plugin.ops.neighbours import nearest


@MODELS.register_module()
class PointINS(PointModel):
    """Pre-train a point backbone to know things and their instances, without labels.

    One trunk, three axes: a backbone, a semantic objective and an offset branch. The
    student sees the visible part of every view, the teacher, its moving average, the
    whole view; ``semantic`` and ``offset_branch`` say what the student learns from
    it. With ``offset_branch=None`` the model is the objective's own method (DOS).

    The teacher is averaged by the hook ``EMATeacherHook``, and ``ModelHook`` moves
    the schedules: training without them is refused. A loop of one's own calls
    ``set_progress`` before each step and averages ``ema_pairs()`` after it.

    Args:
        backbone: config of a backbone; hierarchical ones need ``traceable=True``.
        semantic: config of the objective, e.g. ``dict(type="DOSObjective")``.
        offset_branch: keyword arguments of ``OffsetBranch``, or None.
        head_in_channels: channels of the up-cast features; None sums the backbone's
            ``enc_channels`` over the levels passed.
        teacher_custom: backbone keywords that differ in the teacher (drop path 0).
        num_global_view: views of a scene in the batch.
        up_cast_level: pools undone to reach the tokens.
        mask_size_start, mask_size_base, mask_size_warmup_ratio: edge of the masked
            blocks, metres, and its linear warm-up.
        mask_ratio_start, mask_ratio_base, mask_ratio_warmup_ratio: share of blocks
            masked.
        match_max_r: largest distance of matched tokens of two views in the origin
            frame, metres.

    Batch: ``global_coord``, ``global_origin_coord`` (N, 3) metres, ``global_feat``
    (N, C), ``global_offset`` (B*V,) cumulative, ``global_affine`` (B*V, 4, 4) origin
    to augmented (recovered by least squares if absent), ``grid_size``; for
    monitoring only ``global_instance`` (N,) and ``global_instance_centroid`` (N, 3)
    in the origin frame.

    Returns in training a dict of scalars: ``loss``, its parts and what tells learning
    from its semblance (``target_share``, ``pseudo_instances``), with the same keys on
    every rank.

    Source: PointINS (arXiv 2603.25165) on DOS (arXiv 2512.11465).
    """

    def __init__(
        self,
        backbone: dict,
        semantic: dict,
        offset_branch: dict | None = None,
        head_in_channels: int | None = None,
        teacher_custom: dict | None = None,
        num_global_view: int = 2,
        up_cast_level: int = 2,
        mask_size_start: float = 0.1,
        mask_size_base: float = 0.4,
        mask_size_warmup_ratio: float = 0.05,
        mask_ratio_start: float = 0.3,
        mask_ratio_base: float = 0.7,
        mask_ratio_warmup_ratio: float = 0.05,
        match_max_r: float = 0.32,
    ):
        super().__init__()
        if num_global_view != 2:
            raise UserError(
                f"model PointINS: num_global_view={num_global_view}, but cross-view "
                "matching is defined for 2 global views: set num_global_view=2"
            )
        strides = tuple(backbone.get("stride", ()))
        self.token_stride = token_stride(strides, up_cast_level)
        self.up_cast_level = up_cast_level
        self.num_global_view = num_global_view
        self.match_max_r = match_max_r
        self.mask_size = (mask_size_start, mask_size_base, mask_size_warmup_ratio)
        self.mask_ratio = (mask_ratio_start, mask_ratio_base, mask_ratio_warmup_ratio)

        if head_in_channels is None:
            head_in_channels = _up_cast_channels(backbone, up_cast_level)
        self.semantic = build_model(semantic)
        self.offset_branch = None
        if offset_branch is not None:
            self.offset_branch = build_model({"type": "OffsetBranch", **offset_branch})

        student = {"backbone": build_model(copy.deepcopy(backbone))}
        teacher_backbone = {**copy.deepcopy(backbone), **(teacher_custom or {})}
        teacher = {"backbone": build_model(teacher_backbone)}
        for modules in (student, teacher):
            modules.update(self.semantic.build_heads(head_in_channels))
            if self.offset_branch is not None:
                channels = head_in_channels
                if self.offset_branch.relative_position:
                    channels += 3 * up_cast_level
                modules["offset_head"] = self.offset_branch.build_head(channels)
        self.student = nn.ModuleDict(student)
        self.teacher = nn.ModuleDict(teacher)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.teacher.eval()

        self.progress: float | None = None
        self.ema_attached = False
        self.latest: dict[str, Any] = {}

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the (student, teacher) modules to average."""
        return [(self.student, self.teacher)]

    def train(self, mode: bool = True) -> "PointINS":
        """Set the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def set_progress(self, progress: float) -> None:
        """Move every schedule to ``progress`` in [0, 1] of training."""
        self.progress = min(max(progress, 0.0), 1.0)
        self.semantic.set_progress(self.progress)

    def before_train(self) -> None:
        """Refuse a run whose teacher nobody averages (called by ``ModelHook``)."""
        if not any(hasattr(hook, "averages_teacher") for hook in self.trainer.hooks):
            raise UserError(
                "config: model PointINS has a teacher that no hook averages; add "
                'dict(type="EMATeacherHook") to hooks'
            )

    def before_step(self) -> None:
        """Follow the optimizer's steps (called by ``ModelHook``)."""
        scheduler = self.trainer.scheduler
        total = self.trainer.cfg.scheduler.total_steps
        self.set_progress(scheduler.last_epoch / max(total, 1))

    def forward(self, data_dict: dict, return_point: bool = False) -> dict:
        """Return the losses of a batch of views, or the teacher's tokens.

        With ``return_point`` the batch is a plain one (``coord``, ``feat``,
        ``offset``, ``grid_coord`` or ``grid_size``) and the result is
        ``dict(point=tokens)``, as Sonata's is.
        """
        if return_point:
            return {"point": self._tokens(self.teacher, Point(data_dict))[0]}
        if self.progress is None:
            raise UserError(
                "model PointINS: its schedules do not move; add "
                'dict(type="ModelHook") to hooks, or call set_progress in your loop'
            )
        return self._pretrain_step(data_dict)

    def _pretrain_step(self, data_dict: dict) -> dict[str, Tensor]:
        grid_size = _scalar(data_dict["grid_size"])
        pitch = grid_size * self.token_stride
        # One draw from the global generator seeds all of the step's own randomness:
        # the same on CPU and GPU, and reproducible from the step's seed alone.
        seed = int(torch.randint(2**62, ()).item())
        generator = torch.Generator().manual_seed(seed)

        with torch.no_grad():
            views = _view_points(data_dict, grid_size)
            visible = ~self._mask_blocks(views, pitch, generator)
            teacher, teacher_relative = self._tokens(self.teacher, Point(views), pitch)
            teacher_outputs = self.semantic.teacher_outputs(self.teacher, teacher.feat)
        student, relative = self._tokens(
            self.student, Point(_select(views, visible)), pitch
        )
        num_clouds = len(views["offset"])
        with torch.no_grad():
            same_view, cross_view = self._match(student, teacher, visible)

        output = self.semantic(
            self.student,
            student.feat,
            teacher_outputs,
            same_view,
            cross_view,
            num_clouds,
        )
        loss = output["semantic_loss"]
        self.latest = {
            "teacher_outputs": teacher_outputs,
            "student_feature": student.feat.detach(),
            "teacher_feature": teacher.feat,
            "same_view": same_view,
        }
        if self.offset_branch is not None:
            branch_output = self._branch_step(
                data_dict,
                views,
                student,
                relative,
                teacher,
                teacher_relative,
                same_view,
                cross_view,
                pitch,
                generator,
            )
            weight = self.offset_branch.loss_weight
            weight *= float(self.offset_branch.is_on(self.progress))
            loss = loss + weight * branch_output["offset_loss"]
            output.update(branch_output)
        return {"loss": loss, **output}

    def _branch_step(
        self,
        data_dict,
        views,
        student,
        relative,
        teacher,
        teacher_relative,
        same_view,
        cross_view,
        pitch,
        generator,
    ) -> dict[str, Tensor]:
        branch = self.offset_branch
        num_clouds = len(views["offset"])
        with torch.no_grad():
            inverse = inverse_linear(_view_affine(data_dict, views))
            shift = self._offsets(self.teacher, teacher, teacher_relative)
            shift = transform_vectors(inverse, shift, teacher.batch)
            target = branch.targets(
                teacher.origin_coord,
                shift,
                teacher.offset,
                teacher.batch,
                teacher.feat,
                pitch,
                generator,
            )
        prediction = self._offsets(self.student, student, relative)
        prediction = transform_vectors(inverse, prediction, student.batch)
        output = branch(
            prediction,
            student.origin_coord,
            target,
            teacher.origin_coord,
            same_view,
            cross_view,
            num_clouds,
            generator,
        )
        instances = target.label.max() + 1 if len(target.label) else target.label.sum()
        output["target_share"] = target.mask.float().mean()
        output["pseudo_instances"] = instances.float() / num_clouds
        self.latest.update(
            student_shift=prediction.detach(),
            teacher_shift=shift,
            teacher_coord=teacher.origin_coord,
            teacher_batch=teacher.batch,
            target=target,
            **_token_labels(data_dict, teacher),
        )
        return output

    def _tokens(
        self, modules: nn.ModuleDict, point: Point, pitch: float = 1.0
    ) -> tuple[Point, Tensor]:
        return up_cast(modules["backbone"](point), self.up_cast_level, pitch)

    def _offsets(self, modules: nn.ModuleDict, tokens: Point, relative: Tensor):
        """Return the offsets (N, 3) of tokens, metres, view frame."""
        feature = tokens.feat
        if self.offset_branch.relative_position:
            feature = torch.cat([feature, relative.to(feature.dtype)], dim=1)
        return modules["offset_head"](feature) * self.offset_branch.unit

    def _mask_blocks(self, views, pitch, generator) -> Tensor:
        size = linear_warmup(*self._schedule(self.mask_size))
        ratio = linear_warmup(*self._schedule(self.mask_ratio))
        return block_mask(
            views["grid_coord"],
            views["offset"],
            stride=self.token_stride,
            edge=max(1, round(size / pitch)),
            ratio=ratio,
            generator=generator,
        )

    def _schedule(self, schedule):
        start, base, ratio = schedule
        return start, base, self.progress, ratio

    def _match(
        self, student: Point, teacher: Point, visible: Tensor
    ) -> tuple[Match, Match]:
        """Match student tokens to teacher tokens of the same and of the other view."""
        # Blocks are made of whole tokens, so a visible token is the teacher's token of
        # any of its points.
        same = torch.empty_like(student.batch)
        same[input_to_token(student)] = input_to_token(teacher)[visible]
        count = offset2bincount(teacher.offset)
        starts = teacher.offset - count
        swapped = torch.arange(len(count), device=count.device) ^ 1
        order = torch.cat(
            [
                torch.arange(begin, begin + size, device=count.device)
                for begin, size in zip(
                    starts[swapped].tolist(), count[swapped].tolist(), strict=True
                )
            ]
        )
        found, distance = nearest(
            student.origin_coord.float(),
            teacher.origin_coord[order].float(),
            student.offset,
            torch.cumsum(count[swapped], 0),
        )
        close = (found >= 0) & (distance < self.match_max_r)
        cross = torch.where(close, order[found.clamp(min=0)], -1)
        return _match(same, student.batch), _match(cross, student.batch)

    @torch.no_grad()
    def predict_offsets(self, data_dict: dict, branch: str = "teacher") -> dict:
        """Predict an offset for every input point of plain (unaugmented) clouds.

        Args:
            data_dict: ``coord`` (N, 3) metres, ``feat`` (N, C), ``offset`` (B,), and
                ``grid_coord`` or ``grid_size``.
            branch: ``"teacher"`` or ``"student"``.

        Returns:
            ``coord`` and ``shift`` (N, 3) metres in the input frame, ``offset`` (B,),
            ``feat`` (N, C) the token features at the points. A point's centre is its
            token's: the shift is corrected by their distance.
        """
        if self.offset_branch is None:
            raise UserError(
                "model PointINS has no offset branch, so that it predicts no offsets: "
                "set offset_branch=dict(...) or remove the evaluator from hooks"
            )
        modules = {"teacher": self.teacher, "student": self.student}[branch]
        grid_size = data_dict.get("grid_size")
        point = Point(
            {
                key: data_dict[key]
                for key in ("coord", "feat", "offset", "grid_coord")
                if key in data_dict
            }
        )
        if "grid_coord" not in point.keys():
            if grid_size is None:
                raise UserError(
                    "batch: neither grid_coord nor grid_size is there; collect one"
                )
            point["grid_coord"] = grid_coordinates(
                point.coord, point.offset, _scalar(grid_size)
            )
        size = 1.0 if grid_size is None else _scalar(grid_size)
        if grid_size is None and self.offset_branch.relative_position:
            raise UserError("batch: collect grid_size, the offset head needs its unit")
        tokens, relative = self._tokens(modules, point, size * self.token_stride)
        owner = input_to_token(tokens)
        shift = self._offsets(modules, tokens, relative).float()
        coord = data_dict["coord"].float()
        centre = tokens.coord.float() + shift
        return {
            "coord": coord,
            "shift": centre[owner] - coord,
            "offset": data_dict["offset"],
            "feat": tokens.feat[owner],
        }


def _up_cast_channels(backbone: dict, level: int) -> int:
    channels = backbone.get("enc_channels")
    if channels is None:
        raise UserError(
            "model PointINS: head_in_channels cannot be told from this backbone's "
            "config; give the number of channels of its output"
        )
    return sum(channels[-level - 1 :])


def _scalar(value: Any) -> float:
    """Return the one grid size of a batch, however it was collated."""
    if isinstance(value, Tensor):
        return float(value.reshape(-1)[0])
    if isinstance(value, (list, tuple)):
        return _scalar(value[0])
    return float(value)


def _view_points(data_dict: dict, grid_size: float) -> dict[str, Any]:
    coord, offset = data_dict["global_coord"], data_dict["global_offset"]
    return {
        "coord": coord,
        "origin_coord": data_dict["global_origin_coord"],
        "feat": data_dict["global_feat"],
        "grid_coord": grid_coordinates(coord, offset, grid_size),
        "offset": offset,
        "grid_size": grid_size,
    }


def _select(views: dict[str, Any], keep: Tensor) -> dict[str, Any]:
    """Keep some points of a batch of views."""
    selected = {
        key: value[keep]
        for key, value in views.items()
        if key not in ("offset", "grid_size")
    }
    batch = offset2batch(views["offset"])
    count = torch.bincount(batch[keep], minlength=len(views["offset"]))
    return {**selected, "offset": count.cumsum(0), "grid_size": views["grid_size"]}


def _match(index: Tensor, batch: Tensor) -> Match:
    student = torch.nonzero(index >= 0)[:, 0]
    return Match(student=student, teacher=index[student], batch=batch[student])


def _view_affine(data_dict: dict, views: dict[str, Any]) -> Tensor:
    if "global_affine" in data_dict:
        return data_dict["global_affine"]
    return fit_affine(
        views["origin_coord"],
        views["coord"],
        offset2batch(views["offset"]),
        len(views["offset"]),
    )


def _token_labels(data_dict: dict, tokens: Point) -> dict[str, Tensor]:
    """Return true offsets of tokens where the batch carries labels, to monitor."""
    if "global_instance_centroid" not in data_dict:
        return {}
    owner = input_to_token(tokens)
    num = len(tokens.coord)
    instance = data_dict["global_instance"].new_full((num,), -1)
    instance[owner] = data_dict["global_instance"]
    centroid = data_dict["global_instance_centroid"].new_zeros(num, 3)
    centroid[owner] = data_dict["global_instance_centroid"]
    return {
        "true_shift": centroid.to(tokens.origin_coord) - tokens.origin_coord,
        "true_instance": instance,
    }
