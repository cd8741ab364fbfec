"""Linear probes of a frozen backbone, in closed form or to the end of a convex problem.

Heads trained for some hundred steps say as much about those steps as about the
backbone: of two such probes of one backbone on mOSD, AP differs by more than methods
do. Here offsets are read off by ridge regression and classes by logistic regression;
instances are then made, and scored, as of any model of the config.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.evaluation.instance_scene import nearest_points
from pointins_plugin.evaluation.label_free import OffsetScore
from pointins_plugin.evaluation.logistic_probe import choose_penalty, fit_logistic
from pointins_plugin.evaluation.ridge_probe import LinearMap, probe_offsets
from pointins_plugin.evaluation.semantic import confusion_matrix, semantic_scores
from pointins_plugin.hooks.norms import recalibrate
from pointins_plugin.hooks.pretrained import load_backbone
from pointins_plugin.host import (
    HOOKS,
    Config,
    build_dataset,
    build_model,
    collate_fn,
    load_checkpoint,
    seeded,
)

# Evaluators that a probe is scored by, and what of their results is kept: with the
# classes it predicts, and with true classes in their place.
_SCORES = {
    "InstanceAPEvaluator": (("map", "ap50", "ap25"), ("map", "ap50", "ap25")),
    "PanopticEvaluator": (("pq", "rq", "sq"), ("pq_things", "rq_things", "sq_things")),
}
_SURE = 1e3  # logit of a class that is given


class _SeenEnoughError(Exception):
    """Ends a forward pass whose first part was all that was needed."""


class Probe:
    """A model of a config on a frozen backbone, which looks at scenes.

    Args:
        cfg: of a downstream run whose model has a ``bias_head`` and a ``seg_head``.
        checkpoint: of pre-training; None for random weights, drawn from the seed.
    """

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
        with seeded(index):
            batch = collate_fn([dataset[index]])
        return {
            key: value.to(self.device) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }

    def batches(self, dataset: Any) -> Iterator[dict[str, Any]]:
        """Yield every scene of a split, one at a time."""
        for index in range(len(dataset.data_list)):
            yield self.batch(dataset, index)

    @torch.no_grad()
    def features(self, batch: dict[str, Any]) -> Tensor:
        """Return what the heads see, (N, C)."""
        seen: list[Tensor] = []

        def keep(module, inputs):
            seen.append(inputs[0])
            raise _SeenEnoughError

        handle = self.model.bias_head.register_forward_pre_hook(keep)
        try:
            self.run(batch)
        except _SeenEnoughError:
            pass
        finally:
            handle.remove()
        return seen[0].float()

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
        with seeded(0):  # backbones may draw orders of serialization
            return self.model(dict(batch))


class _Linear(nn.Module):
    """A fitted linear map in the place of a head."""

    def __init__(self, fitted: LinearMap):
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(fitted.weight).float())
        self.register_buffer("bias", torch.from_numpy(fitted.bias).float())

    def forward(self, feature: Tensor) -> Tensor:
        return torch.addmm(self.bias, feature.float(), self.weight)


class _Given(nn.Module):
    """Says what it was told to in the place of a head."""

    said: Tensor

    def forward(self, feature: Tensor) -> Tensor:
        return self.said


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

    def __init__(self, probe: Probe, given: bool = False):
        super().__init__()
        self.model = probe.model
        self._run = probe.run
        self._classes = probe.cfg.data.num_classes
        self._given = given
        self.offsets = OffsetScore()
        self.confusion = np.zeros((self._classes, self._classes + 1), dtype=np.int64)

    @torch.no_grad()
    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        said: dict[str, Tensor] = {}
        heads = {"offset": self.model.bias_head, "class": self.model.seg_head}
        if self._given:
            known = batch["segment"].clamp(min=0, max=self._classes - 1)
            self.model.seg_head = _Given()
            self.model.seg_head.said = _SURE * F.one_hot(known, self._classes).float()
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
            self.model.seg_head = heads["class"]
        if not self._given:
            self._count(batch, said)
        return output

    def _count(self, batch: dict[str, Any], said: dict[str, Tensor]) -> None:
        def array(value: Tensor) -> np.ndarray:
            return value.cpu().numpy()

        target = array(batch["instance_centroid"] - batch["coord"])
        self.offsets.update(
            array(said["offset"]), target, array(batch["instance"] >= 0)
        )
        predicted, segment = array(said["class"].argmax(1)), array(batch["segment"])
        if "origin_segment" in batch:
            segment = array(batch["origin_segment"])
            nearest = (
                array(batch["inverse"])
                if "inverse" in batch
                else nearest_points(array(batch["origin_coord"]), array(batch["coord"]))
            )
            predicted = predicted[nearest]
        self.confusion += confusion_matrix(predicted, segment, self._classes, -1)


def score_heads(probe: Probe) -> dict[str, Any]:
    """Score a probe on the validation scenes, by the evaluator of its config.

    Returns:
        Instances (``map``, ``ap50``, ``ap25``, or ``pq``, ``rq``, ``sq``), ``miou``,
        ``macc`` and ``allacc`` of the head of classes, all in percent; ``offset_r2``
        and ``offset_cosine`` over points of things; under ``true_classes`` instances
        where the true class of every point stands for the predicted one (of panoptic
        scores those of things).
    """
    dataset = probe.dataset("val")
    (hook,) = (hook for hook in probe.cfg.hooks if hook["type"] in _SCORES)
    own, given = _SCORES[hook["type"]]

    def measure(watched: _Watched) -> dict[str, Any]:
        evaluator = HOOKS.build(dict(hook))
        evaluator.trainer = SimpleNamespace(
            cfg=probe.cfg, model=probe.model, val_loader=probe.batches(dataset)
        )
        return evaluator.measure(watched)

    watched = _Watched(probe)
    found = measure(watched)
    semantic = semantic_scores(watched.confusion)
    with_classes = measure(_Watched(probe, given=True))
    return {
        **{key: found[key] for key in own},
        **{key: 100 * float(semantic[key]) for key in ("miou", "macc", "allacc")},
        **{key: float(value) for key, value in watched.offsets.compute().items()},
        "true_classes": {key: with_classes[key] for key in given},
    }
