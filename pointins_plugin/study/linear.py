"""Linear probes of a frozen backbone, in closed form or to the end of a convex problem.

Heads trained for some hundred steps are far from their end, and say as much about those
steps as about the backbone. Here offsets are read off by ridge regression and classes
by logistic regression; instances are then made, and scored, as of any model of the
config.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.evaluation.instance_scene import nearest_points
from pointins_plugin.evaluation.label_free import (
    OffsetScore,
    agnostic_ap,
    scene_prediction,
)
from pointins_plugin.evaluation.logistic_probe import choose_penalty, fit_logistic
from pointins_plugin.evaluation.ridge_probe import LinearMap, probe_offsets
from pointins_plugin.evaluation.semantic import confusion_matrix, semantic_scores
from pointins_plugin.hooks.norms import recalibrate
from pointins_plugin.hooks.pretrained import load_backbone
from pointins_plugin.host import (
    HOOKS,
    Config,
    batch_to,
    build_dataset,
    build_model,
    collate_fn,
    in_evaluation,
    load_checkpoint,
    seeded,
)
from pointins_plugin.models.head_input import head_input
from pointins_plugin.ops.proposals import propose_instances
from pointins_plugin.ops.smoothing import smooth_offsets

# To be raised with every change of what a probe measures: results of another version
# are measured anew, and never stand in one table with these. 2: classes with the
# penalty that is best for mean IoU.
VERSION = 2

_SAMPLINGS_APART = 1_000_003  # more scenes than a split has

# Evaluators that a probe is scored by, and what of their results is kept.
_SCORES = {
    "InstanceAPEvaluator": ("map", "ap50", "ap25"),
    "PanopticEvaluator": ("pq", "rq", "sq"),
}


class Probe:
    """A model of a config on a frozen backbone, which looks at scenes.

    Args:
        cfg: of a downstream run whose model has a ``bias_head`` and a ``seg_head``.
        checkpoint: of pre-training; None for random weights, drawn from the seed.

    ``sampling`` tells which of the points in a cell stand for it: a number, 0 for what
    the study shows.
    """

    sampling = 0

    def __init__(self, cfg: Config, checkpoint: Path | None = None):
        self.cfg = cfg
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        with seeded(cfg.seed or 0):
            self.model = build_model(cfg.model)
        if checkpoint is not None:
            (loader,) = (h for h in cfg.hooks if h["type"] == "PretrainedLoader")
            state = load_checkpoint(str(checkpoint))["state_dict"]
            load_backbone(self.model, state, loader["branch"], str(checkpoint))
        self.model.eval().to(self.device)

    def dataset(self, split: str) -> Any:
        """Return the scenes of a split, whole and unchanged as for evaluation."""
        options = {**self.cfg.data[split], "transform": self.cfg.data.val.transform}
        if "loop" in options:
            options["loop"] = 1
        return build_dataset(options)

    def batch(self, dataset: Any, index: int) -> dict[str, Any]:
        """Return one scene as the model takes it."""
        with seeded(index + _SAMPLINGS_APART * self.sampling):
            batch = collate_fn([dataset[index]])
        return batch_to(batch, self.device)

    def batches(
        self, dataset: Any, scenes: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the scenes of a split, one at a time: all, or so many first ones."""
        for index in range(len(dataset.data_list))[:scenes]:
            yield self.batch(dataset, index)

    @torch.no_grad()
    def features(self, batch: dict[str, Any]) -> Tensor:
        """Return what the heads see, (N, C)."""
        return head_input(self.model.bias_head, lambda: self.run(batch)).float()

    @torch.no_grad()
    def predict(self, batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets (N, 3), metres, and instances (N,), -1 for none."""
        seen: list[Tensor] = []
        handle = self.model.bias_head.register_forward_hook(
            lambda module, inputs, output: seen.append(output)
        )
        try:
            output = self.run(batch)
        finally:
            handle.remove()
        return seen[0].float().cpu().numpy(), output["pred_instance"].cpu().numpy()

    def run(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return what the model says of a batch."""
        return in_evaluation(self.model, dict(batch))


class _Linear(nn.Module):
    """A fitted linear map in the place of a head."""

    def __init__(self, fitted: LinearMap):
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(fitted.weight).float())
        self.register_buffer("bias", torch.from_numpy(fitted.bias).float())

    def forward(self, feature: Tensor) -> Tensor:
        return torch.addmm(self.bias, feature.float(), self.weight)


def fit_heads(probe: Probe, class_points: int = 40_000) -> dict[str, float]:
    """Put linear maps, fitted on the training scenes, in the place of a probe's heads.

    Running statistics of batch norms in the backbone are taken anew first, as heads
    that are trained let them follow the data.

    Args:
        probe: of a frozen backbone.
        class_points: labelled points that classes are fitted on, spread over the
            scenes; offsets are fitted on all points of things.

    Returns:
        ``offset_penalty``, ``class_penalty``, ``train_points`` (of things).

    Raises:
        UserError: the training scenes have no labels.
    """
    dataset = probe.dataset("train")
    recalibrate(
        probe.model.backbone,
        (lambda b=b: probe.features(b) for b in probe.batches(dataset)),
    )
    share = max(1, class_points // len(dataset.data_list))
    samples: list[tuple[Tensor, Tensor, Tensor]] = []
    generator = torch.Generator().manual_seed(0)
    things = 0

    def scenes() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal things
        num_classes = probe.cfg.data.num_classes
        for index, batch in enumerate(probe.batches(dataset)):
            feature = probe.features(batch)
            segment = batch["segment"]
            known = (segment >= 0) & (segment < num_classes)
            rows = torch.nonzero(known).flatten().cpu()
            drawn = torch.randperm(len(rows), generator=generator)[:share]
            rows = rows[drawn].to(feature.device)
            samples.append(
                (feature[rows], segment[rows], torch.full_like(segment[rows], index))
            )
            thing = batch["instance"] >= 0
            things += int(thing.sum())
            target = batch["instance_centroid"] - batch["coord"]
            yield feature[thing].cpu().numpy(), target[thing].cpu().numpy()

    offsets, offset_penalty = probe_offsets(scenes())
    feature, label, scene = (torch.cat(part) for part in zip(*samples, strict=True))
    num_classes = probe.cfg.data.num_classes
    class_penalty = choose_penalty(feature, label, scene, num_classes)
    classes = fit_logistic(feature, label, num_classes, class_penalty)
    probe.model.bias_head = _Linear(offsets).to(probe.device)
    probe.model.seg_head = _Linear(classes).to(probe.device)
    return {
        "offset_penalty": offset_penalty,
        "class_penalty": class_penalty,
        "train_points": things,
    }


class _Watched(nn.Module):
    """A probe as an evaluator runs it, which counts what its heads say."""

    def __init__(self, probe: Probe):
        super().__init__()
        self.model = probe.model
        self._run = probe.run
        self._classes = probe.cfg.data.num_classes
        self._options = probe.cfg.model
        self.offsets = OffsetScore()
        self.confusion = np.zeros((self._classes, self._classes + 1), dtype=np.int64)
        self.scenes: list[dict[str, Any]] = []

    @torch.no_grad()
    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        said: dict[str, Tensor] = {}
        heads = {"offset": self.model.bias_head, "class": self.model.seg_head}
        handles = [
            head.register_forward_hook(
                lambda module, inputs, output, name=name: said.update({name: output})
            )
            for name, head in heads.items()
        ]
        try:
            output = self._run(batch)
        finally:
            for handle in handles:
                handle.remove()
        thing = batch["instance"] >= 0
        target = batch["instance_centroid"] - batch["coord"]
        self.offsets.update(*(_array(x) for x in (said["offset"], target, thing)))
        self._count_classes(batch, said["class"])
        shift = said["offset"].float()
        found = _things(self._options, batch["coord"], shift, thing)
        self.scenes.append(scene_prediction(_array(found), _array(batch["instance"])))
        return output

    def _count_classes(self, batch: dict[str, Any], logits: Tensor) -> None:
        predicted, segment = _array(logits.argmax(1)), _array(batch["segment"])
        if "origin_segment" in batch:
            segment = _array(batch["origin_segment"])
            predicted = predicted[
                _array(batch["inverse"])
                if "inverse" in batch
                else nearest_points(
                    _array(batch["origin_coord"]), _array(batch["coord"])
                )
            ]
        self.confusion += confusion_matrix(predicted, segment, self._classes, -1)


def _array(value: Tensor) -> np.ndarray:
    return value.cpu().numpy()


def _things(
    options: Mapping[str, Any], coord: Tensor, shift: Tensor, thing: Tensor
) -> Tensor:
    """Group the points of things (N,) as a model of such options groups one class."""
    ends = torch.tensor([len(coord)], device=coord.device)
    if options.get("smoothing"):
        near = options["smoothing"]
        shift = smooth_offsets(coord.float(), shift, ends, keep=thing, **near)
    radius = options.get("radius") or options["cluster_thresh"] * options["voxel_size"]
    least = options.get("min_points") or max(
        options["cluster_min_points"], options["cluster_propose_points"] + 1
    )
    return propose_instances(
        coord + shift,
        F.one_hot(thing.long(), 2).float(),
        (-1, 0),
        torch.zeros(len(coord), dtype=torch.long, device=coord.device),
        method=options.get("grouping", "components"),
        radius=radius,
        bandwidth=options.get("bandwidth"),
        min_size=least,
    ).label


def score_heads(
    probe: Probe, split: str = "val", scenes: int | None = None
) -> dict[str, Any]:
    """Score a probe by the evaluator of its config.

    Args:
        probe: whose heads are fitted.
        split: ``"val"`` for what the study shows; ``"train"`` for choices.
        scenes: the first ones that are scored; None for all.

    Returns:
        Instances (``map``, ``ap50``, ``ap25``, or ``pq``, ``rq``, ``sq``), ``miou``,
        ``macc`` and ``allacc`` of the head of classes, all in percent; ``offset_r2``
        and ``offset_cosine`` over points of things; under ``true_things`` the AP of
        instances where it is given which points belong to things, and no class is
        asked for: what the offsets are worth, whatever is known of classes; under
        ``worst_scene`` the ``index`` of the scene whose ``map`` of that is lowest.
    """
    (hook,) = (hook for hook in probe.cfg.hooks if hook["type"] in _SCORES)
    watched = _Watched(probe)
    evaluator = HOOKS.build(dict(hook))
    evaluator.trainer = SimpleNamespace(
        cfg=probe.cfg,
        model=probe.model,
        val_loader=probe.batches(probe.dataset(split), scenes),
    )
    found = evaluator.measure(watched)
    semantic = semantic_scores(watched.confusion)
    return {
        **{key: found[key] for key in _SCORES[hook["type"]]},
        **{key: 100 * float(semantic[key]) for key in ("miou", "macc", "allacc")},
        **{key: float(value) for key, value in watched.offsets.compute().items()},
        "true_things": agnostic_ap(watched.scenes),
        "worst_scene": _worst(watched.scenes),
    }


def _worst(scenes: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Return the scene of lowest AP, the first of several; None without instances."""
    score = np.array([agnostic_ap([scene])["map"] for scene in scenes])
    if not np.isfinite(score).any():
        return None
    index = int(np.nanargmin(score))
    return {"index": index, "map": float(score[index])}
