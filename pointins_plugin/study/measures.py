"""What is read off finished runs: scores, curves, frozen features, pictures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.ridge_probe import ridge_probe
from pointins_plugin.hooks.pretrained import backbone_weights
from pointins_plugin.host import (
    Config,
    build_dataset,
    build_model,
    collate_fn,
    load_checkpoint,
    seeded,
)
from pointins_plugin.pictures import save_panels
from pointins_plugin.study.runs import Step

# Reports of evaluators, and what of them is kept.
_REPORTS = {
    "label_free.json": ("offset_r2", "offset_cosine", "methods"),
    "instance_ap.json": ("map", "ap50", "ap25"),
    "semantic.json": ("miou", "macc", "allacc"),
    "panoptic.json": ("pq", "rq", "sq", "miou"),
}
_CURVES = ("monitor/target_r2", "monitor/shift_r2")


def _report(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise UserError(
            f"report {path} cannot be read; delete {path.parent}, so that the run is "
            "done anew"
        ) from None


def stage_scores(run: Path) -> dict[str, Any]:
    """Return what a run's last evaluation says; {} where nothing was evaluated."""
    scores: dict[str, Any] = {}
    for file, names in _REPORTS.items():
        report = _report(run / file) or {}
        scores.update({name: report[name] for name in names if name in report})
    return scores


def curves(run: Path) -> dict[str, list[list[float]]]:
    """Return (step or epoch, value) of what shows whether a run is at its end.

    R^2 of targets and of the teacher's offsets by step, and by epoch the first score
    of the run's report (``map``, ``miou``, ``pq``).
    """
    found: dict[str, list[list[float]]] = {}
    for line in _metrics(run):
        if line["tag"] in _CURVES and line["value"] is not None:
            name = line["tag"].partition("/")[2]
            found.setdefault(name, []).append([line["step"], line["value"]])
    for file, names in _REPORTS.items():
        history = (_report(run / file) or {}).get("history", ())
        key = names[0]
        points = [[e["epoch"], e[key]] for e in history if e.get(key) is not None]
        if points:
            found[key] = points
    return found


def _metrics(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's metrics; one cut short by a kill is left out."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def steps_taken(run: Path) -> int:
    """Return the optimizer's steps of a run."""
    steps = (x["step"] for x in _metrics(run) if x["tag"] == "train_batch/loss")
    return max(steps, default=0)


def encoder_parameters(checkpoint: Path) -> int:
    """Return the number of weights of a checkpoint's (student's) backbone."""
    state = load_checkpoint(str(checkpoint))["state_dict"]
    return sum(
        value.numel()
        for key, value in backbone_weights(state, "student", str(checkpoint)).items()
        if "running_" not in key and "num_batches" not in key
    )


class _SeenEnoughError(Exception):
    """Ends a forward pass whose first part was all that was needed."""


class Probe:
    """A finished probe of a backbone, ready to look at scenes.

    Args:
        step: its run.
    """

    def __init__(self, step: Step):
        self.cfg = Config.fromfile(step.folder / "config.py")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = build_model(self.cfg.model)
        state = load_checkpoint(str(step.checkpoint))["state_dict"]
        state = {key.removeprefix("module."): value for key, value in state.items()}
        self.model.load_state_dict(state)
        self.model.eval().to(self.device)

    def dataset(self, split: str) -> Any:
        """Return the scenes of a split, whole and unchanged as for evaluation."""
        options = {**self.cfg.data[split], "transform": self.cfg.data.val.transform}
        return build_dataset(options)

    def batch(self, dataset: Any, index: int) -> dict[str, Any]:
        """Return one scene as the model takes it."""
        with seeded(index):
            batch = collate_fn([dataset[index]])
        return {
            key: value.to(self.device) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }

    @torch.no_grad()
    def features(self, batch: dict[str, Any]) -> Tensor:
        """Return what the heads see, (N, C)."""
        seen: list[Tensor] = []

        def keep(module, inputs):
            seen.append(inputs[0])
            raise _SeenEnoughError

        handle = self.model.bias_head.register_forward_pre_hook(keep)
        try:
            self._run(batch)
        except _SeenEnoughError:
            pass
        finally:
            handle.remove()
        return seen[0]

    @torch.no_grad()
    def predict(self, batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets (N, 3), metres, and instances (N,), -1 for none."""
        seen: list[Tensor] = []
        handle = self.model.bias_head.register_forward_hook(
            lambda module, inputs, output: seen.append(output)
        )
        try:
            output = self._run(batch)
        finally:
            handle.remove()
        return seen[0].float().cpu().numpy(), output["pred_instance"].cpu().numpy()

    def _run(self, batch: dict[str, Any]) -> dict[str, Any]:
        with seeded(0):  # backbones may draw orders of serialization
            return self.model(dict(batch))


def probe_offsets(step: Step, num_scenes: int) -> dict[str, float]:
    """Fit true offsets to a probe's frozen features, in closed form.

    The features are those that the linear probe sees: of all levels, at every cell.

    Args:
        step: run of a linear probe with a bias head.
        num_scenes: training scenes, evenly chosen; all validation scenes are scored.

    Returns:
        As ``ridge_probe`` does.
    """
    probe = Probe(step)

    def scenes(split: str, most: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        dataset = probe.dataset(split)
        total = len(dataset.data_list)
        chosen = np.unique(np.linspace(0, total - 1, min(most or total, total)).round())
        for index in chosen.astype(int).tolist():
            batch = probe.batch(dataset, index)
            thing = batch["instance"] >= 0
            target = batch["instance_centroid"] - batch["coord"]
            feature = probe.features(batch)
            yield feature[thing].cpu().numpy(), target[thing].cpu().numpy()

    return ridge_probe(scenes("train", num_scenes), scenes("val", None))


def draw_probe(step: Step, index: int, title: str, path: Path) -> None:
    """Draw a validation scene with a probe's offsets and instances beside the truth.

    Args:
        step: run of a probe with a bias head.
        index: of the scene.
        title: of the input's panel.
        path: PNG to write.
    """
    probe = Probe(step)
    dataset = probe.dataset("val")
    batch = probe.batch(dataset, index)
    shift, found = probe.predict(batch)
    truth = batch["instance"].cpu().numpy()
    coord = batch["coord"].cpu().numpy()
    scene = {"coord": coord}
    raw = dataset.get_data(index)
    original = batch.get("origin_coord")
    if original is not None and len(original) == len(raw.get("color", ())):
        scene = {"coord": original.cpu().numpy(), "color": raw["color"]}
        if "normal" in raw:
            scene["normal"] = raw["normal"]
        nearest = cKDTree(coord).query(scene["coord"])[1]
        shift, found, truth = shift[nearest], found[nearest], truth[nearest]
    plain = title.replace("*", "")
    titles = {"input": plain, "offsets": "offsets", "centres": "centres"}
    save_panels(path, scene, shift, found, truth, titles=titles, size=(300, 250))
