"""What is read off finished runs: scores, curves, sizes, pictures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy.spatial import cKDTree

from pointins_plugin.pictures import save_panels
from pointins_plugin.study.linear import Probe
from pointins_plugin.study.scores import read_report

# Reports of evaluators, and what of them is kept.
_REPORTS = {
    "label_free.json": ("offset_r2", "offset_cosine", "methods"),
    "instance_ap.json": ("map", "ap50", "ap25"),
    "semantic.json": ("miou", "macc", "allacc"),
    "panoptic.json": ("pq", "rq", "sq", "miou"),
}
_CURVES = ("monitor/target_r2", "monitor/shift_r2")


def stage_scores(run: Path) -> dict[str, Any]:
    """Return what a run's last evaluation says; {} where nothing was evaluated."""
    scores: dict[str, Any] = {}
    for file, names in _REPORTS.items():
        report = read_report(run / file) or {}
        scores.update({name: report[name] for name in names if name in report})
    return scores


def curves(run: Path) -> dict[str, list[list[float]]]:
    """Return (step or epoch, value) of what shows whether a run is at its end.

    R^2 of targets and of the teacher's offsets by step, and by epoch the first score
    of the run's report (``map``, ``miou``, ``pq``, ``offset_r2``).
    """
    found: dict[str, list[list[float]]] = {}
    for line in _metrics(run):
        if line["tag"] in _CURVES and line["value"] is not None:
            name = line["tag"].partition("/")[2]
            found.setdefault(name, []).append([line["step"], line["value"]])
    for file, names in _REPORTS.items():
        history = (read_report(run / file) or {}).get("history", ())
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


def draw_probe(probe: Probe, index: int, title: str, path: Path) -> None:
    """Draw a validation scene with a probe's offsets and instances beside the truth.

    Args:
        probe: of a backbone.
        index: of the scene.
        title: of the input's panel.
        path: PNG to write.
    """
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
