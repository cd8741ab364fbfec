"""PointINS: a teacher-student trunk with a semantic objective and an offset branch."""

import copy
import difflib
import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import (
    HOST,
    MODELS,
    Point,
    build_model,
    get_root_logger,
    teacher_of_student,
)
from pointins_plugin.models.encoder import Encoder
from pointins_plugin.models.heads import MaskToken
from pointins_plugin.models.matching import match_nearest, match_visible
from pointins_plugin.models.objectives import LocalViews, Match, linear_warmup
from pointins_plugin.models.offset_branch import OffsetTarget
from pointins_plugin.models.schedule import ScheduledModel
from pointins_plugin.models.sonata_keywords import (
    SONATA_KEYWORDS,
    TRUNK_DEFAULTS,
    sonata_objective,
)
from pointins_plugin.models.tokens import (
    backbone_tokens,
    block_mask,
    cloud_ends,
    cube_mask,
    grid_coordinates,
    grid_size_of,
    input_to_token,
    token_stride,
    up_cast_channels,
)
from pointins_plugin.ops.affine import fit_affine, inverse_linear, transform_vectors
from pointins_plugin.ops.device import to_device
from pointins_plugin.ops.segments import segment_count, segment_index


@dataclass(frozen=True)
class Masking:
    """What is hidden from the student in one step.

    Attributes:
        mask: (N,) bool, the masked points of the global views.
        jitter: (N, 3) metres by which points are moved in the student's view, zero
            where not masked; None moves nothing.
    """

    mask: Tensor
    jitter: Tensor | None = None

    @cached_property
    def visible(self) -> Tensor:
        """Rows (M,) of the points that are not masked."""
        return torch.nonzero(~self.mask)[:, 0]


@dataclass(frozen=True)
class Tokens:
    """A backbone's tokens, and where their coarser cells lie.

    Attributes:
        point: up-cast features, ``coord`` and ``origin_coord`` of the tokens.
        relative: (N, 3 * level) from ``up_cast``.
    """

    point: Point
    relative: Tensor


@MODELS.register_module()
class PointINS(ScheduledModel):
    """Pre-train a point backbone to know things and their instances, without labels.

    One trunk, three axes: a backbone, a semantic objective and an offset branch. The
    student sees the unmasked part of every global view (and, if the objective asks
    for them, small local views), the teacher, its moving average, whole global views;
    ``semantic`` and ``offset_branch`` say what the student learns from it. With
    ``offset_branch=None`` the model is the objective's own method (DOS, Sonata).

    ``EMATeacherHook`` (or ``momentum_base``) averages the teacher and ``ModelHook``
    moves the schedules: training without them is refused. A loop of one's own calls
    ``set_progress`` before each step and averages ``ema_pairs()`` after it.

    Without ``semantic`` the keywords are those of Pointcept's ``Sonata-v1m1``, its
    defaults included, so that an existing config becomes instance-aware by another
    ``type`` and an ``offset_branch``.

    Args:
        backbone: config of a backbone; hierarchical ones need ``traceable=True``.
        semantic: config of the objective, e.g. ``dict(type="DOSObjective")``.
        offset_branch: keyword arguments of ``OffsetBranch``, or None.
        head_in_channels: channels of the up-cast features; None sums the backbone's
            ``enc_channels`` over the levels passed.
        teacher_custom: backbone keywords that differ in the teacher (drop path 0).
        num_global_view: global views of a scene in the batch: 2, or 1 for objectives
            that compare no views.
        num_local_view: local views of a scene; None takes what the batch holds.
        up_cast_level: pools undone to reach the tokens; 0 for sparse convolutions.
        token_pool: cells along a token where a backbone has a feature for every point
            (sparse convolutions): they are averaged.
        mask_size_start, mask_size_base, mask_size_warmup_ratio: edge of the masked
            blocks, metres, and its linear warm-up.
        mask_ratio_start, mask_ratio_base, mask_ratio_warmup_ratio: share of blocks
            masked.
        mask_jitter: standard deviation of the noise on masked points (clipped at
            twice that), metres; only where the objective keeps them.
        match_max_r: largest distance of matched tokens of two views in the origin
            frame, metres; .32 (.08 without ``semantic``).
        shared_grid: the cells of all clouds of a batch start at its lowest corner, as
            in ``Sonata-v1m1``, instead of each cloud's own; by default only without
            ``semantic``.
        momentum_base, momentum_final: of the teacher, along a cosine, where no
            ``EMATeacherHook`` is among the hooks; None leaves it to the hook.
        sonata: without ``semantic``, ``Sonata-v1m1``'s other keywords.

    Batch: ``global_coord``, ``global_origin_coord`` (N, 3) metres, ``global_feat``
    (N, C), ``global_offset`` (B*V,) cumulative, ``global_affine`` (B*V, 4, 4) origin
    to augmented (recovered by least squares if absent), ``grid_size``;
    ``global_grid_coord`` (N, 3) cells, computed if absent; for
    objectives with local views ``local_*`` likewise, without matrix; for monitoring
    only ``global_instance`` (N,) and ``global_instance_centroid`` (N, 3) in the
    origin frame.

    Returns in training a dict of scalars: ``loss``, its parts and what tells learning
    from its semblance (``target_share``, ``pseudo_instances``), with the same keys on
    every rank.

    Source: PointINS (arXiv 2603.25165) on DOS (arXiv 2512.11465) and Sonata.
    """

    def __init__(
        self,
        backbone: dict,
        semantic: dict | None = None,
        offset_branch: dict | None = None,
        head_in_channels: int | None = None,
        teacher_custom: dict | None = None,
        num_global_view: int = 2,
        num_local_view: int | None = None,
        up_cast_level: int = 2,
        token_pool: int = 1,
        mask_size_start: float = 0.1,
        mask_size_base: float = 0.4,
        mask_size_warmup_ratio: float = 0.05,
        mask_ratio_start: float = 0.3,
        mask_ratio_base: float = 0.7,
        mask_ratio_warmup_ratio: float = 0.05,
        mask_jitter: float | None = None,
        match_max_r: float | None = None,
        shared_grid: bool | None = None,
        momentum_base: float | None = None,
        momentum_final: float = 1.0,
        **sonata: Any,
    ):
        defaults = {"match_max_r": 0.32, "momentum_base": None, "shared_grid": False}
        semantic, defaults = _objective(semantic, sonata, defaults)
        super().__init__(
            _first(momentum_base, defaults["momentum_base"]), momentum_final
        )
        self.match_max_r = _first(match_max_r, defaults["match_max_r"])
        self.shared_grid = _first(shared_grid, defaults["shared_grid"])
        strides = tuple(backbone.get("stride", ()))
        self.token_pool = token_pool
        self.token_stride = token_pool * token_stride(strides, up_cast_level)
        self.up_cast_level = up_cast_level
        self.num_global_view = num_global_view
        self.num_local_view = num_local_view
        self.mask_size = (mask_size_start, mask_size_base, mask_size_warmup_ratio)
        self.mask_ratio = (mask_ratio_start, mask_ratio_base, mask_ratio_warmup_ratio)
        self.mask_jitter = mask_jitter

        if head_in_channels is None:
            head_in_channels = up_cast_channels(backbone, up_cast_level)
        self.semantic = build_model(semantic)
        self._check_views()
        self.offset_branch = None
        if offset_branch is not None:
            self.offset_branch = build_model({"type": "OffsetBranch", **offset_branch})
        self._check_branch()

        student = {"backbone": build_model(copy.deepcopy(backbone))}
        teacher_backbone = {**copy.deepcopy(backbone), **(teacher_custom or {})}
        teacher = {"backbone": build_model(teacher_backbone)}
        needs_token = self._uses_masked_view and self.semantic.student_input == "masked"
        for modules in (student, teacher):
            if needs_token and not backbone.get("mask_token"):
                modules["mask_token"] = MaskToken(backbone["in_channels"])
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

        self.latest: dict[str, Any] = {}

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Let a teacher that a checkpoint lacks start as its student, in any loader."""
        copied = teacher_of_student(state_dict, prefix)
        if copied:
            own = {f"{prefix}{key}" for key in self.state_dict()}
            copied = {key: copied[key] for key in copied if key in own}
            state_dict.update(copied)
            get_root_logger().info(
                f"The weights bring no teacher: {len(copied)} keys are copies of the "
                "student's"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_views(self) -> None:
        allowed = (2,) if self.semantic.uses_other_view else (1, 2)
        if self.num_global_view not in allowed:
            raise UserError(
                f"model PointINS: num_global_view={self.num_global_view}, but "
                f"{type(self.semantic).__name__} is defined for "
                f"{' or '.join(map(str, allowed))} global views"
            )

    @property
    def _uses_masked_view(self) -> bool:
        return self.semantic.uses_masked_view or self.offset_branch is not None

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return the (student, teacher) modules to average."""
        return [(self.student, self.teacher)]

    def _check_branch(self) -> None:
        """Refuse what a kind of PointINS cannot do with its offset branch."""

    def train(self, mode: bool = True) -> "PointINS":
        """Set the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def set_progress(self, progress: float) -> None:
        """Move every schedule to ``progress`` in [0, 1] of training."""
        super().set_progress(progress)
        self.semantic.set_progress(self.progress)

    def forward(self, data_dict: dict, return_point: bool = False) -> dict:
        """Return the losses of a batch of views, or the teacher's tokens.

        With ``return_point`` the batch is a plain one (``coord``, ``feat``,
        ``offset``, ``grid_coord`` or ``grid_size``) and the result is
        ``dict(point=tokens)``, as Sonata's is.
        """
        if return_point:
            return {"point": self._tokens(self.teacher, data_dict).point}
        if self.progress is None:
            raise UserError(
                "model PointINS: its schedules do not move; add "
                'dict(type="ModelHook") to hooks, or call set_progress in your loop'
            )
        return self._pretrain_step(data_dict)

    def _pretrain_step(self, data_dict: dict) -> dict[str, Tensor]:
        grid_size = grid_size_of(data_dict["grid_size"])
        pitch = grid_size * self.token_stride
        # One draw from the global generator seeds all of the step's own randomness:
        # the same on CPU and GPU, and reproducible from the step's seed alone.
        seed = int(torch.randint(2**62, ()).item())
        generator = torch.Generator().manual_seed(seed)
        self.latest = {}  # of the last step: it would be held beside this one's

        with torch.no_grad():
            views = self._views(data_dict, "global", grid_size)
            self._check_scenes(len(views["offset"]), data_dict.get("name"))
            teacher = self._tokens(self.teacher, views, pitch)
            teacher_outputs = self.semantic.teacher_outputs(
                self.teacher, teacher.point.feat
            )
        num_clouds = len(views["offset"])
        student = same_view = cross_view = local_views = None
        if self._uses_masked_view:
            with torch.no_grad():
                masking = self.draw_masking(views, pitch, generator)
                masked = self._masked_views(views, masking)
            student = self._tokens(self.student, masked, pitch)
            with torch.no_grad():
                same_view, cross_view = self._match(student, teacher, masking)
        if self.semantic.uses_local_views:
            local_views = self._local_views(data_dict, grid_size, pitch, teacher)

        output = self.semantic(
            self.student,
            None if student is None else student.point.feat,
            teacher_outputs,
            same_view,
            cross_view,
            num_clouds,
            local_views,
        )
        loss = output["semantic_loss"]
        seen = (
            (student.point.feat, same_view)
            if student
            else (local_views.feature, local_views.match)
        )
        self.latest = {
            "student_feature": seen[0].detach(),
            "teacher_feature": teacher.point.feat,
            "same_view": seen[1],
        }
        if self.semantic.has_prototypes:
            self.latest["teacher_outputs"] = next(iter(teacher_outputs.values()))
        if self.offset_branch is not None:
            prediction, branch_output = self._branch_step(
                data_dict,
                views,
                student,
                teacher,
                same_view,
                cross_view,
                pitch,
                generator,
            )
            if self.offset_branch.is_on(self.progress):
                weight = self.offset_branch.loss_weight
                loss = loss + weight * branch_output["offset_loss"]
            else:  # its head takes part in the step, which other ranks count on
                loss = loss + 0 * prediction.sum()
            output.update(branch_output)
        return {"loss": loss, **output}

    def _branch_step(
        self,
        data_dict,
        views,
        student,
        teacher,
        same_view,
        cross_view,
        pitch,
        generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the student's offsets (N, 3), view frame, and the named losses."""
        branch = self.offset_branch
        num_clouds = len(views["offset"])
        tokens = teacher.point
        with torch.no_grad():
            inverse = inverse_linear(_view_affine(data_dict, views))
            shift = self._offsets(self.teacher, teacher)
            shift = transform_vectors(inverse, shift, tokens.batch)
            target = self._branch_targets(data_dict, tokens, shift, pitch, generator)
        predicted = self._offsets(self.student, student)
        prediction = transform_vectors(inverse, predicted, student.point.batch)
        output = branch(
            prediction,
            student.point.origin_coord,
            target,
            tokens.origin_coord,
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
            teacher_coord=tokens.origin_coord,
            teacher_batch=tokens.batch,
            target=target,
            **token_labels(data_dict, tokens),
        )
        return predicted, output

    def _branch_targets(
        self, data_dict, tokens, shift, pitch, generator
    ) -> OffsetTarget:
        """Return what the teacher's offsets (N, 3) become, in the origin frame."""
        return self.offset_branch.targets(
            tokens.origin_coord,
            shift,
            tokens.offset,
            tokens.batch,
            tokens.feat,
            pitch,
            generator,
            cloud_ends(tokens),
        )

    def _check_scenes(self, num_clouds: int, names: Any) -> None:
        """Refuse a batch whose views would be paired with those of other scenes.

        Raises:
            UserError: it has another number of global views for each scene.
        """
        num_scenes, rest = divmod(num_clouds, self.num_global_view)
        if rest or (isinstance(names, (list, tuple)) and len(names) != num_scenes):
            scenes = (
                f" of {len(names)} scenes" if isinstance(names, (list, tuple)) else ""
            )
            raise UserError(
                f"batch: {num_clouds} global views{scenes}, but the model has "
                f"num_global_view={self.num_global_view}; set global_view_num of the "
                "view generator alike"
            )

    def _views(self, data_dict: dict, kind: str, grid_size: float) -> dict[str, Any]:
        """Return the global or local views of a batch as a backbone takes them."""
        keys = ("coord", "origin_coord", "feat", "offset")
        missing = [key for key in keys if f"{kind}_{key}" not in data_dict]
        if missing:
            raise UserError(
                f"batch: {kind}_{missing[0]} is not there, which "
                f"{type(self.semantic).__name__} needs; make {kind} views "
                f"({kind}_view_num of the view generator) and collect their keys"
            )
        views = {key: data_dict[f"{kind}_{key}"] for key in keys}
        views["batch"] = segment_index(views["offset"], len(views["coord"]))
        views["grid_size"] = grid_size
        if f"{kind}_grid_coord" in data_dict:  # sampled to one point a cell
            return {**views, "grid_coord": data_dict[f"{kind}_grid_coord"]}
        return self._with_grid(views)

    def _with_grid(self, views: dict[str, Any]) -> dict[str, Any]:
        grid_coord = grid_coordinates(
            views["coord"], views["offset"], views["grid_size"], self.shared_grid
        )
        return {**views, "grid_coord": grid_coord}

    def _tokens(
        self, modules: nn.ModuleDict, views: dict[str, Any], pitch: float = 1.0
    ) -> Tokens:
        point = Point(views)
        if "mask" in point.keys() and "mask_token" in modules:
            point["feat"] = modules["mask_token"](point.feat, point.pop("mask"))
        return Tokens(
            *backbone_tokens(
                modules["backbone"], point, self.up_cast_level, pitch, self.token_pool
            )
        )

    def _offsets(self, modules: nn.ModuleDict, tokens: Tokens) -> Tensor:
        """Return the offsets (N, 3) of tokens, metres, view frame."""
        feature = tokens.point.feat
        if self.offset_branch.relative_position:
            feature = torch.cat([feature, tokens.relative.to(feature.dtype)], dim=1)
        return modules["offset_head"](feature) * self.offset_branch.unit

    def draw_masking(
        self,
        views: dict[str, Any],
        pitch: float,
        generator: torch.Generator | None = None,
    ) -> Masking:
        """Draw what is hidden from the student: random only here, applied elsewhere.

        Args:
            views: ``coord`` (N, 3), ``grid_coord`` (N, 3) and ``offset`` of the global
                views.
            pitch: distance of neighbouring tokens, metres.
            generator: CPU generator.
        """
        size = linear_warmup(*self._schedule(self.mask_size))
        ratio = linear_warmup(*self._schedule(self.mask_ratio))
        coord, offset = views["coord"], views["offset"]
        if self.semantic.student_input == "visible":
            mask = block_mask(
                views["grid_coord"],
                offset,
                stride=self.token_stride,
                edge=max(1, round(size / pitch)),
                ratio=ratio,
                generator=generator,
            )
            return Masking(mask)
        mask = cube_mask(coord, offset, size, ratio, generator)
        jitter = None
        if self.mask_jitter:
            noise = torch.randn(coord.shape, generator=generator).clamp_(-2, 2)
            noise = to_device(noise * self.mask_jitter, coord.device)
            jitter = noise.to(coord.dtype) * mask[:, None]
        return Masking(mask, jitter)

    def _masked_views(self, views: dict[str, Any], masking: Masking) -> dict[str, Any]:
        if self.semantic.student_input == "visible":
            return _select(views, masking.visible)
        masked = {**views, "mask": masking.mask}
        if masking.jitter is None:
            return masked
        return self._with_grid({**masked, "coord": views["coord"] + masking.jitter})

    def _schedule(self, schedule):
        start, base, ratio = schedule
        return start, base, self.progress, ratio

    def _match(
        self, student: Tokens, teacher: Tokens, masking: Masking
    ) -> tuple[Match, Match | None]:
        """Match student tokens to teacher tokens of the same and of the other view."""
        student, teacher = student.point, teacher.point
        clouds = range(len(teacher.offset))

        def nearest_in(searched):
            return match_nearest(
                student.origin_coord,
                cloud_ends(student),
                student.batch,
                teacher,
                searched,
                self.match_max_r,
            )

        # Visible blocks are made of whole tokens, so that their tokens are the
        # teacher's; a masked view has its own, as masked points are moved.
        if self.semantic.student_input == "visible":
            same = match_visible(student, teacher, masking.visible)
        else:
            same = nearest_in(clouds)
        if self.num_global_view == 1:
            return same, None
        return same, nearest_in([cloud ^ 1 for cloud in clouds])

    def _local_views(self, data_dict, grid_size, pitch, teacher: Tokens) -> LocalViews:
        """Return the student's local tokens, matched to the first global views."""
        views = self._views(data_dict, "local", grid_size)
        major = range(0, len(teacher.point.offset), self.num_global_view)
        num_clouds = len(views["offset"])
        per_scene, rest = divmod(num_clouds, len(major))
        if rest or not per_scene or per_scene != (self.num_local_view or per_scene):
            raise UserError(
                f"batch: {num_clouds} local views for {len(major)} scenes, expected "
                f"{self.num_local_view or 'the same number'} for each; set "
                "local_view_num of the view generator and num_local_view of the model "
                "alike"
            )
        tokens = self._tokens(self.student, views, pitch).point
        with torch.no_grad():
            match = match_nearest(
                tokens.origin_coord,
                cloud_ends(tokens)[per_scene - 1 :: per_scene],
                tokens.batch,
                teacher.point,
                major,
                self.match_max_r,
            )
        return LocalViews(tokens.feat, match, num_clouds)

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
        return self.encoder(branch).predict_offsets(data_dict)

    def encoder(self, branch: str = "teacher") -> Encoder:
        """Return the part of the model that others use; weights are shared."""
        modules = {"teacher": self.teacher, "student": self.student}[branch]
        options: dict[str, Any] = {}
        if self.offset_branch is not None:
            options = {
                "offset_head": modules["offset_head"],
                "unit": self.offset_branch.unit,
                "relative_position": self.offset_branch.relative_position,
            }
        return Encoder(
            modules["backbone"],
            self.up_cast_level,
            self.token_pool,
            self.token_stride,
            **options,
        )


if HOST == "standalone":  # Pointcept has its own
    MODELS.register_module("Sonata-v1m1", module=PointINS)


def _objective(
    semantic: dict | None, sonata: dict[str, Any], defaults: dict[str, Any]
) -> tuple[dict, dict[str, Any]]:
    """Return the objective's config and the defaults that go with it."""
    known = set(inspect.signature(PointINS).parameters) - {"sonata"}
    if semantic is None:
        known |= SONATA_KEYWORDS
    for name in sonata:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(f"config: PointINS has no option {name!r}{hint}")
    if semantic is not None:
        return semantic, defaults
    return sonata_objective(sonata), TRUNK_DEFAULTS


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


def _select(views: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """Keep some points of a batch of views."""
    selected = {
        key: value.index_select(0, rows)
        for key, value in views.items()
        if key not in ("offset", "grid_size")
    }
    count = segment_count(selected["batch"], len(views["offset"]))
    return {**selected, "offset": count.cumsum(0), "grid_size": views["grid_size"]}


def _view_affine(data_dict: dict, views: dict[str, Any]) -> Tensor:
    if "global_affine" in data_dict:
        return data_dict["global_affine"]
    return fit_affine(
        views["origin_coord"],
        views["coord"],
        views["batch"],
        len(views["offset"]),
    )


def token_labels(data_dict: dict, tokens: Point) -> dict[str, Tensor]:
    """Return true offsets and instances of tokens; {} where there are no labels."""
    if "global_instance_centroid" not in data_dict:
        return {}
    owner = input_to_token(tokens)
    # A token takes both labels of one of its points, the last one, on any device.
    rows = torch.arange(len(owner), device=owner.device)
    row = owner.new_zeros(len(tokens.coord)).scatter_reduce(
        0, owner, rows, "amax", include_self=False
    )
    instance = data_dict["global_instance"][row]
    centroid = data_dict["global_instance_centroid"][row]
    return {
        "true_shift": centroid.to(tokens.origin_coord) - tokens.origin_coord,
        "true_instance": instance,
    }
