"""Instance average precision of a model during training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.instance_ap import (
    average_precision,
    class_agnostic,
    scene_overlaps,
)
from pointins_plugin.evaluation.instance_scene import batch_scenes
from pointins_plugin.hooks.labelled import LabelledValidationHook
from pointins_plugin.host import HOOKS, HOST, comm, to_numpy, unwrapped

_KEYS = ("map", "ap50", "ap25")


def class_indices(
    names: Sequence[str],
    wanted: Sequence[str],
    role: str,
    owner: str = "InstanceAPEvaluator",
) -> list[int]:
    """Return the indices of class names.

    Raises:
        UserError: a name that is no class; ``role`` says what it was named as, and
            ``owner`` by whom.
    """
    for name in wanted:
        if name not in names:
            raise UserError(
                f"{owner}: {role} names {name!r}, which is not in "
                f"data.names ({', '.join(names)})"
            )
    return [list(names).index(name) for name in wanted]


def ignored_classes(
    names: Sequence[str],
    stuff: Sequence[str] | None,
    things: Sequence[str] | None,
    given: Sequence[int] | None,
    of_model: Sequence[int] | None,
) -> tuple[int, ...]:
    """Return the classes that have no instances, where all who name them agree.

    Args:
        names: of all classes.
        stuff, things: names of classes, or None.
        given: classes that an evaluator ignores, or None.
        of_model: classes that the model ignores, or None.

    Raises:
        UserError: an unknown name, or two that disagree about a class.
    """
    claims = {
        "segment_ignore_index": given,
        "stuff": None if stuff is None else class_indices(names, stuff, "stuff"),
        "the model": of_model,
    }
    sets = {
        who: {index for index in claim if 0 <= index < len(names)}
        for who, claim in claims.items()
        if claim is not None
    }
    ignored: set[int] = next(iter(sets.values()), set())
    for index in class_indices(names, things or (), "things"):
        who = next((who for who, claim in sets.items() if index in claim), None)
        if who is not None:
            raise UserError(
                f"InstanceAPEvaluator: {names[index]!r} is among things but {who} "
                "ignores it: its instances would be lost; take it out of one"
            )
    for who, claim in sets.items():
        if claim != ignored:
            first = next(iter(sets))
            odd = min(claim ^ ignored)
            ignores, counts = (who, first) if odd in claim else (first, who)
            raise UserError(
                f"InstanceAPEvaluator: {ignores} ignores {names[odd]!r}, which has "
                f"instances by {counts}: they would be lost; let both agree"
            )
    if things is not None:
        ignored = set(range(len(names))) - set(class_indices(names, things, "things"))
    return tuple(sorted(ignored))


@HOOKS.register_module()
class InstanceAPEvaluator(LabelledValidationHook):
    """Score predicted instances after every epoch by the ScanNet procedure.

    The model returns ``pred_classes``, ``pred_scores`` (K,) and ``pred_instance`` (N,)
    or ``pred_masks`` (K, N), as PointGroup does; predictions are carried to the
    original points where the batch holds ``origin_coord``. Same numbers as Pointcept's
    ``InsSegEvaluator``.

    Args:
        segment_ignore_index: classes that are void; None takes those of ``stuff`` or
            of the model.
        instance_ignore_index: id of points of no instance.
        stuff: names of the classes without instances; None takes ``data.stuff``.
        things: names of the classes with instances; None takes ``data.things`` or,
            without it, all but ``stuff``.
        min_region: fewest points of an instance that counts.
        agnostic: also score all classes as one.
        every: epochs between two evaluations; 0 evaluates at the end only.
        filename: of the report in the run's folder; its APs are percentages, its
            ``classes`` hold those of every class, null where there is no instance.

    Raises:
        UserError: an unknown class name; a thing among the ignored classes; the model
            ignores other classes; an instance of a class that is neither thing nor
            stuff.

    The metric is AP50, as in Pointcept.
    """

    def __init__(
        self,
        segment_ignore_index: Sequence[int] | None = None,
        instance_ignore_index: int = -1,
        stuff: Sequence[str] | None = None,
        things: Sequence[str] | None = None,
        min_region: int = 100,
        agnostic: bool = False,
        every: int = 1,
        filename: str = "instance_ap.json",
    ):
        super().__init__(every, filename)
        self.segment_ignore_index = segment_ignore_index
        self.instance_ignore_index = instance_ignore_index
        self.stuff = stuff
        self.things = things
        self.min_region = min_region
        self.agnostic = agnostic

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.cfg.evaluate:
            self.ignored_classes()

    def ignored_classes(self) -> tuple[int, ...]:
        """Return the classes that do not count, checked against model and names."""
        model = unwrapped(self.trainer.model)
        data = self.trainer.cfg.data
        return ignored_classes(
            list(data.names),
            self._named("stuff"),
            self._named("things"),
            self.segment_ignore_index,
            getattr(model, "segment_ignore_index", None),
        )

    def _named(self, role: str) -> Sequence[str] | None:
        named = getattr(self, role)
        return self.trainer.cfg.data.get(role) if named is None else named

    def measure(self, model: Any) -> dict[str, Any]:
        names = list(self.trainer.cfg.data.names)
        num = self.trainer.cfg.data.num_classes
        ignored = self.ignored_classes()
        silent = []
        if self._named("things") is not None:
            stuff = class_indices(names, self._named("stuff") or (), "stuff")
            silent = sorted(set(ignored) - set(stuff))
        scenes: dict[str, tuple] = {}
        losses = []
        for batch, output, _ in self.outputs(model):
            for key in ("segment", "instance", "name"):
                if key not in batch:
                    raise UserError(
                        f"InstanceAPEvaluator: validation batches have no {key!r}; "
                        "add it to the keys of Collect in data.val.transform"
                    )
            if "pred_classes" not in output:
                raise UserError(
                    f"InstanceAPEvaluator: {type(model).__name__} predicts no "
                    "instances (pred_classes, pred_scores, pred_masks)"
                )
            if "loss" in output:
                losses.append(float(output["loss"]))
            for scene in batch_scenes(to_numpy(batch), to_numpy(output)):
                scene["instance"] = self._instances(scene, silent, names)
                scenes[scene["name"]] = self._overlaps(scene, num, ignored)
        gathered: dict[str, tuple] = {}
        for part in comm.all_gather(scenes):
            gathered.update(part)
        rows = [gathered[name] for name in sorted(gathered)]
        ap = average_precision([row[0] for row in rows], num, ignored, self.min_region)
        result: dict[str, Any] = {
            "scenes": len(rows),
            "loss": self.mean_loss(losses),
            **{key: 100 * float(ap[key]) for key in _KEYS},
            "min_region": self.min_region,
            "classes": {
                names[index]: dict(zip(_KEYS, (100 * values).tolist(), strict=True))
                for index, values in zip(ap["class_ids"], ap["per_class"], strict=True)
            },
        }
        if self.agnostic:
            one = average_precision([row[1] for row in rows], 1, (), self.min_region)
            result["agnostic"] = {key: 100 * float(one[key]) for key in _KEYS}
        return result

    def _instances(self, scene: dict, silent: list[int], names: list) -> np.ndarray:
        instance = np.asarray(scene["instance"])
        instance = np.where(instance == self.instance_ignore_index, -1, instance)
        if silent:
            lost = np.isin(scene["segment"], silent) & (instance != -1)
            if lost.any():
                name = names[int(scene["segment"][lost][0])]
                raise UserError(
                    f"InstanceAPEvaluator: scene {scene['name']} has instances of "
                    f"{name!r}, which is neither among things nor stuff: add it to one"
                )
        return instance

    def _overlaps(self, scene: dict, num: int, ignored: tuple[int, ...]) -> tuple:
        overlaps = scene_overlaps(scene, num, ignored, self.min_region)
        if not self.agnostic:
            return (overlaps,)
        things = [index for index in range(num) if index not in ignored]
        (single,) = class_agnostic([scene], things)
        return overlaps, scene_overlaps(single, 1, (), self.min_region)

    def metric(self, result: dict[str, Any]) -> tuple[str, float]:
        return "AP50", result["ap50"] / 100

    def log(self, result: dict[str, Any]) -> None:
        logger = self.trainer.logger
        values = "/".join(f"{result[key] / 100:.4f}" for key in _KEYS)
        logger.info(f"Val result: mAP/AP50/AP25 {values}, {result['scenes']} scenes")
        for name, row in result["classes"].items():
            values = "/".join(f"{row[key] / 100:.4f}" for key in _KEYS)
            logger.info(f"Class {name}: AP/AP50/AP25 {values}")
        scalars = {
            "loss": result["loss"],
            "mAP": result["map"] / 100,
            "AP50": result["ap50"] / 100,
            "AP25": result["ap25"] / 100,
        }
        self.write_scalars(scalars, result["epoch"])


if HOST == "standalone":

    @HOOKS.register_module()
    class InsSegEvaluator(InstanceAPEvaluator):
        """The evaluator under the name and with the keywords of Pointcept's."""

        def __init__(
            self,
            segment_ignore_index: Sequence[int] = (-1,),
            instance_ignore_index: int = -1,
        ):
            super().__init__(segment_ignore_index, instance_ignore_index)
