"""Panoptic quality of a model during training."""

from collections.abc import Sequence
from typing import Any

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.panoptic_quality import PanopticQuality
from pointins_plugin.evaluation.panoptic_scene import add_scene, panoptic_scenes
from pointins_plugin.hooks.instance_ap import class_indices
from pointins_plugin.hooks.labelled import LabelledValidationHook
from pointins_plugin.host import HOOKS, comm, to_numpy, unwrapped

_NAME = "PanopticEvaluator"
_MEANS = ("pq", "pq_dagger", "sq", "rq", "miou")
_SPLITS = tuple(
    f"{name}_{split}" for split in ("things", "stuff") for name in ("pq", "sq", "rq")
)
_ROWS = ("pq", "sq", "rq", "iou")


@HOOKS.register_module()
class PanopticEvaluator(LabelledValidationHook):
    """Score panoptic predictions after every epoch: PQ and its parts.

    The model returns ``pred_segment`` and ``pred_instance`` (N,). Every original point
    is scored where the batch holds ``inverse`` (or ``origin_coord``) with
    ``origin_segment`` and ``origin_instance``. As the benchmarks do it, the points of
    a thing class that have no instance are one segment of that class; with
    ``origin_panoptic``, the true segments of a class are its raw labels.

    Args:
        min_points: unmatched segments of fewer points are no errors: 50 in
            SemanticKITTI, 15 in nuScenes.
        things: names of the classes with instances; None takes ``data.things`` or,
            without it, all but ``stuff``.
        stuff: names of the others; None takes ``data.stuff``.
        ignore: names of classes that are void; labels outside the classes always are.
        every: epochs between two evaluations; 0 evaluates at the end only.
        filename: of the report in the run's folder; its scores are percentages, its
            ``classes`` hold PQ, SQ, RQ and IoU of every class.

    Raises:
        UserError: an unknown class name, a class that is neither thing nor stuff or
            both, a model that groups other things, batches without labels.

    The metric is PQ.
    """

    def __init__(
        self,
        min_points: int = 50,
        things: Sequence[str] | None = None,
        stuff: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        every: int = 1,
        filename: str = "panoptic.json",
    ):
        super().__init__(every, filename)
        if min_points < 0:
            raise UserError(
                f"config: PanopticEvaluator min_points={min_points}; give 0 or more"
            )
        self.min_points = min_points
        self.things = things
        self.stuff = stuff
        self.ignore = ignore

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.cfg.evaluate:
            self.thing_classes()

    def thing_classes(self) -> tuple[int, ...]:
        """Return the classes with instances, checked against names and model."""
        data = self.trainer.cfg.data
        names = list(data.names)
        things = data.get("things") if self.things is None else self.things
        stuff = data.get("stuff") if self.stuff is None else self.stuff
        if things is None and stuff is None:
            raise UserError(
                "PanopticEvaluator: it is not said which classes are things; set "
                "data.stuff, or stuff of the evaluator"
            )
        without = class_indices(names, stuff or (), "stuff", _NAME)
        found = (
            tuple(c for c in range(len(names)) if c not in without)
            if things is None
            else tuple(class_indices(names, things, "things", _NAME))
        )
        if stuff is not None:
            for index, name in enumerate(names):
                if (index in found) == (index in without):
                    raise UserError(
                        f"PanopticEvaluator: class {name!r} must be among things or "
                        "among stuff, and not in both"
                    )
        model = unwrapped(self.trainer.model)
        grouped = getattr(model, "segment_ignore_index", None)
        if grouped is not None and set(range(len(names))) - set(grouped) != set(found):
            raise UserError(
                f"PanopticEvaluator: things are {[names[c] for c in found]}, but the "
                f"model's segment_ignore_index={tuple(grouped)} leaves others; set it "
                f"to {(-1, *(c for c in range(len(names)) if c not in found))}"
            )
        return found

    def quality(self) -> PanopticQuality:
        """Return a score of no scan yet."""
        names = list(self.trainer.cfg.data.names)
        ignore = class_indices(names, self.ignore, "ignore", _NAME)
        return PanopticQuality(
            len(names), ignore, self.min_points, self.thing_classes()
        )

    def measure(self, model: Any) -> dict[str, Any]:
        names = list(self.trainer.cfg.data.names)
        scans: dict[str, PanopticQuality] = {}
        losses = []
        for batch, output, _ in self.outputs(model):
            if "pred_segment" not in output or "pred_instance" not in output:
                raise UserError(
                    f"PanopticEvaluator: {type(model).__name__} predicts no panoptic "
                    "segments (pred_segment, pred_instance); use PointGroupPanoptic"
                )
            if "loss" in output:
                losses.append(float(output["loss"]))
            predicted = {k: output[k] for k in ("pred_segment", "pred_instance")}
            for scene in panoptic_scenes(to_numpy(batch), to_numpy(predicted)):
                scans[scene["name"]] = self._score(scene)
        # Samplers may repeat scans to fill the last batch: by name each counts once,
        # and in the same order on however many processes.
        gathered: dict[str, PanopticQuality] = {}
        for part in comm.all_gather(scans):
            gathered.update(part)
        total = self.quality()
        for name in sorted(gathered):
            total.merge(gathered[name])
        scores = total.compute()
        return {
            "scenes": len(gathered),
            "loss": self.mean_loss(losses),
            **{key: 100 * scores[key] for key in (*_MEANS, *_SPLITS)},
            "min_points": self.min_points,
            "classes": {
                name: dict(zip(_ROWS, (100 * column).tolist(), strict=True))
                for name, column in zip(names, scores["per_class"].T, strict=True)
            },
        }

    def _score(self, scene: dict[str, Any]) -> PanopticQuality:
        score = self.quality()
        add_scene(score, scene, _NAME)
        return score

    def metric(self, result: dict[str, Any]) -> tuple[str, float]:
        return "PQ", result["pq"] / 100

    def log(self, result: dict[str, Any]) -> None:
        logger = self.trainer.logger
        values = "/".join(f"{result[key] / 100:.4f}" for key in _MEANS)
        logger.info(f"Val result: PQ/PQ+/SQ/RQ/mIoU {values}, {result['scenes']} scans")
        for split in ("things", "stuff"):
            values = "/".join(
                f"{result[f'{key}_{split}'] / 100:.4f}" for key in ("pq", "sq", "rq")
            )
            logger.info(f"{split.capitalize()}: PQ/SQ/RQ {values}")
        for name, row in result["classes"].items():
            values = "/".join(f"{row[key] / 100:.4f}" for key in _ROWS)
            logger.info(f"Class {name}: PQ/SQ/RQ/IoU {values}")
        scalars = {
            "loss": result["loss"],
            **{
                key.upper() if key != "miou" else "mIoU": result[key] / 100
                for key in _MEANS
            },
            "PQ_things": result["pq_things"] / 100,
            "PQ_stuff": result["pq_stuff"] / 100,
        }
        self.write_scalars(scalars, result["epoch"])
