"""Evaluation of instances without labels, during and after training."""

import math
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.grouping import Grouping
from pointins_plugin.evaluation.label_free import (
    BASELINES,
    OffsetScore,
    agnostic_ap,
    format_table,
    scene_prediction,
    true_offsets,
)
from pointins_plugin.hooks.validation import ValidationHook
from pointins_plugin.host import HOOKS, batch_to, comm, in_evaluation, unwrapped
from pointins_plugin.ops.proposals import GROUPINGS


@HOOKS.register_module()
class LabelFreeInstanceEvaluator(ValidationHook):
    """Score the instances that offsets give without labels or a head.

    For each validation scene the teacher's offsets shift the points, shifted centres
    are grouped, and class-agnostic AP is measured against the labels, beside
    baselines on the same points: HDBSCAN on coordinates, components after plane (or
    ground) removal, and true offsets as the ceiling; and R^2 and cosine of the
    offsets. Points without a true instance are void. Scenes come from ``data.val``
    with ``coord``, ``feat``, ``grid_coord``, ``grid_size``, ``offset``, ``instance``
    and ``name``.

    Args:
        radius: distance of centres in one component, metres.
        bandwidth: of the mean shift, metres.
        baseline_radius: distance of points in one component of the geometric
            baseline, metres; ``radius`` if None.
        min_size: fewest points of a predicted instance.
        min_region: fewest points of a true instance that counts.
        planes: keyword arguments of ``dominant_planes`` (metres and shares).
        ground: keyword arguments of ``ground_points`` (metres); outdoors, what belongs
            to no instance in place of planes.
        smoothing: keyword arguments of ``smooth_offsets``, by which neighbours agree
            on a centre before centres are grouped; None groups them as predicted.
            R^2 and cosine are always those of the offsets as predicted.
        baselines: names among hdbscan, plane_components, oracle.
        every: epochs between two evaluations; 0 evaluates at the end only.
        branch: ``"teacher"`` or ``"student"``.
        max_scenes: scenes to evaluate, all if None.
        filename: written into the run's folder.

    Writes a table to the log and ``filename``; the metric is AP50 of components.
    Nothing is evaluated where the config says ``evaluate=False``.

    Raises:
        UserError: an unknown baseline; before training, a model without an offset
            branch, or a baseline that is not installed; scenes without instances.
    """

    def __init__(
        self,
        radius: float,
        bandwidth: float,
        baseline_radius: float | None = None,
        min_size: int = 20,
        min_region: int = 20,
        planes: dict | None = None,
        smoothing: dict | None = None,
        baselines: tuple[str, ...] = ("hdbscan", "plane_components", "oracle"),
        every: int = 1,
        branch: str = "teacher",
        max_scenes: int | None = None,
        filename: str = "label_free.json",
        ground: dict | None = None,
    ):
        super().__init__(every, filename)
        odd = set(baselines) - set(BASELINES)
        if odd:
            raise UserError(
                f"LabelFreeInstanceEvaluator: no baseline {odd.pop()!r}; use some of "
                f"{', '.join(BASELINES)}"
            )
        self.options = {
            "radius": radius,
            "bandwidth": bandwidth,
            "baseline_radius": baseline_radius or radius,
            "min_size": min_size,
        }
        self.grouping = Grouping(
            radius, bandwidth, min_size, planes or {}, smoothing, ground=ground
        )
        self.min_region = min_region
        self.baselines = tuple(baselines)
        self.branch = branch
        self.max_scenes = max_scenes
        self._planes: dict[str, np.ndarray] = {}
        self._baselines: dict[str, dict[str, dict]] = {}
        self._evaluated = -1  # the epoch it was done after

    def before_train(self) -> None:
        super().before_train()
        if not self.trainer.cfg.evaluate:
            return
        # What would stop the evaluation at the end is told before the training.
        model = unwrapped(self.trainer.model)
        if hasattr(model, "offset_branch") and model.offset_branch is None:
            raise UserError(
                f"LabelFreeInstanceEvaluator: {type(model).__name__} has no offset "
                "branch: leave evaluate=True out, or take the evaluator from hooks"
            )
        if "hdbscan" in self.baselines and find_spec("sklearn") is None:
            raise UserError(
                "LabelFreeInstanceEvaluator: the baseline hdbscan needs scikit-learn: "
                'pip install "pointins[demo]", or name other baselines'
            )

    def after_train(self) -> None:
        # A run resumed after its last epoch has no epoch left to evaluate.
        trainer = self.trainer
        if trainer.cfg.evaluate and self._evaluated != trainer.max_epoch:
            trainer.epoch = trainer.max_epoch - 1
            self.evaluate()

    def measure(self, model: Any) -> dict[str, Any]:
        model = unwrapped(model)
        self._evaluated = self.trainer.epoch + 1
        own = None
        if self.max_scenes is not None:
            own = math.ceil(self.max_scenes / comm.get_world_size())
        scenes: dict[str, dict] = {}
        for batch in self.trainer.val_loader:
            for scene in self._predict(model, batch):
                scenes[scene["name"]] = self._describe(scene)
            if own is not None and len(scenes) >= own:
                break
        gathered: dict[str, dict] = {}
        for part in comm.all_gather(scenes):
            gathered.update(part)
        return self._score([gathered[k] for k in sorted(gathered)[: self.max_scenes]])

    def metric(self, result: dict[str, Any]) -> tuple[str, float]:
        return "label-free AP50", result["ap50"]

    @torch.no_grad()
    def _predict(self, model: Any, batch: dict) -> list[dict]:
        """Return coordinates, offsets and labels of each scene of a batch."""
        device = next(model.parameters()).device
        batch = batch_to(batch, device)
        if "instance" not in batch:
            raise UserError(
                "LabelFreeInstanceEvaluator: validation scenes have no instance labels"
            )
        output = in_evaluation(model.predict_offsets, batch, branch=self.branch)
        scenes, start = [], 0
        for index, end in enumerate(output["offset"].tolist()):
            rows = slice(start, end)
            scene = {
                "name": batch["name"][index],
                "coord": output["coord"][rows].cpu().numpy(),
                "shift": output["shift"][rows].float().cpu().numpy(),
                "instance": batch["instance"][rows].cpu().numpy(),
            }
            scene["plane"] = self._scene_planes(scene)
            scene["grouped_shift"] = self.grouping.agree(
                scene["coord"], scene["shift"], scene["plane"]
            )
            scenes.append(scene)
            start = end
        return scenes

    def _scene_planes(self, scene: dict) -> np.ndarray:
        name = scene["name"]
        if name not in self._planes:
            self._planes[name] = self.grouping.plane(scene["coord"])
        return self._planes[name]

    def _describe(self, scene: dict) -> dict[str, Any]:
        """Return the groupings of a scene, and its offsets beside the true ones."""
        described: dict[str, Any] = {
            method: scene_prediction(
                replace(self.grouping, method=method).instances(
                    scene["coord"], scene["grouped_shift"], scene["plane"]
                ),
                scene["instance"],
            )
            for method in GROUPINGS
        }
        # Baselines do not change with training.
        if scene["name"] not in self._baselines:
            self._baselines[scene["name"]] = {
                name: scene_prediction(
                    BASELINES[name](scene, self.options), scene["instance"]
                )
                for name in self.baselines
            }
        described.update(self._baselines[scene["name"]])
        described["shift"] = scene["shift"]
        described["true_shift"] = true_offsets(scene["coord"], scene["instance"])
        described["thing"] = scene["instance"] >= 0
        return described

    def _score(self, scenes: list[dict]) -> dict[str, Any]:
        offsets = OffsetScore()
        for scene in scenes:
            offsets.update(scene["shift"], scene["true_shift"], scene["thing"])
        methods = {
            name: agnostic_ap([scene[name] for scene in scenes], self.min_region)
            for name in (*GROUPINGS, *self.baselines)
        }
        return {
            "scenes": len(scenes),
            "options": {
                **self.options,
                "min_region": self.min_region,
                "smoothing": self.grouping.smoothing,
                "background": "planes" if self.grouping.ground is None else "ground",
            },
            **offsets.compute(),
            "ap50": methods["components"]["ap50"],
            "methods": methods,
        }

    def log(self, result: dict[str, Any]) -> None:
        self.trainer.logger.info(
            f"Label-free instances after epoch {result['epoch']}, {result['scenes']} "
            f"scenes: offset R^2 {result['offset_r2']:.3f}, cosine "
            f"{result['offset_cosine']:.3f}\n"
            + format_table(result["methods"], result["options"]["background"])
        )
        scalars = {key: result[key] for key in ("offset_r2", "offset_cosine")}
        for method, row in result["methods"].items():
            scalars |= {f"{method}_{key}": value for key, value in row.items()}
        self.write_scalars(scalars, result["epoch"])
