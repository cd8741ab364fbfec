"""What coordinates alone find: baselines of label-free instances, once a seed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pointins_plugin.evaluation.label_free import (
    BASELINES,
    agnostic_ap,
    scene_prediction,
)
from pointins_plugin.host import HOOKS, Config, build_dataset, derive_seed, seeded
from pointins_plugin.study.ladder import (
    EVALUATOR,
    GEOMETRY,
    PRETRAINING,
    WHOLE,
    Ladder,
    Unit,
)
from pointins_plugin.study.provenance import provenance
from pointins_plugin.study.runs import write_json
from pointins_plugin.study.unit import digest, mark, read_result


def geometry_path(results: Path, data: str, seed: int, size: str) -> Path:
    """Return the file that holds the baselines of a data set and seed."""
    return results / "runs" / f"{data}-{GEOMETRY}-seed{seed}{mark(size)}.json"


def geometry_config(ladder: Ladder, data: str, seed: int, size: str) -> Config:
    """Return the scenes, and how they are grouped, and nothing else of a config."""
    unit = Unit(data, ladder.rows[WHOLE], seed)
    cfg = ladder.config(unit, PRETRAINING, size, baselines=True)
    hooks = [hook for hook in cfg.hooks if hook["type"] == EVALUATOR]
    return Config(dict(data=dict(val=cfg.data.val), hooks=hooks, seed=seed))


def sampled_scenes(cfg: Config, evaluator: Any, split: str = "val") -> Iterator[dict]:
    """Yield the scenes of a split as the evaluator of a run samples them.

    A run of the config's seed and its baselines so see the same points.

    Args:
        cfg: with ``data`` and ``seed``.
        evaluator: ``LabelFreeInstanceEvaluator``, which knows what is background.
        split: of ``data``; scenes are whole, as for evaluation, whatever it is.

    Yields:
        ``coord`` (N, 3) metres, ``instance`` (N,), ``plane`` (N,) bool.
    """
    options = {**cfg.data[split], "transform": cfg.data.val.transform}
    if "loop" in options:
        options["loop"] = 1
    dataset = build_dataset(options)
    for index in range(len(dataset)):
        with seeded(derive_seed(cfg.seed, 0, index)):
            sample = dataset[index]
        coord = sample["coord"].numpy()
        plane = evaluator.grouping.plane(coord)
        yield dict(coord=coord, instance=sample["instance"].numpy(), plane=plane)


def geometry_scores(cfg: Config) -> dict[str, Any]:
    """Return AP, AP50 and AP25 of each baseline on the validation scenes.

    Args:
        cfg: with ``data.val``, ``seed`` and, among ``hooks``, the evaluator.

    Returns:
        ``scenes``, their number; ``options`` of the groupings; ``methods`` by name.
    """
    (options,) = (hook for hook in cfg.hooks if hook["type"] == EVALUATOR)
    evaluator = HOOKS.build(options)
    found: dict[str, list] = {name: [] for name in evaluator.baselines}
    scenes = 0
    for scene in sampled_scenes(cfg, evaluator):
        scenes += 1
        for name, predictions in found.items():
            label = BASELINES[name](scene, evaluator.options)
            predictions.append(scene_prediction(label, scene["instance"]))
    methods = {
        name: agnostic_ap(predictions, evaluator.min_region)
        for name, predictions in found.items()
    }
    return {"scenes": scenes, "options": evaluator.options, "methods": methods}


def measure_geometry(
    ladder: Ladder, data: str, seed: int, size: str, results: Path
) -> bool:
    """Write the baselines of a data set and seed; return False if they are there."""
    path = geometry_path(results, data, seed, size)
    cfg = geometry_config(ladder, data, seed, size)
    settings = digest(cfg)
    before = read_result(path) or {"stages": {}}
    if before["stages"].get(GEOMETRY, {}).get("settings") == settings:
        return False
    made, began = provenance(), time.perf_counter()
    scores = geometry_scores(cfg)
    seconds = round(time.perf_counter() - began, 1)
    stage = {"settings": settings, "scores": scores, "seconds": seconds, **made}
    write_json(
        path,
        {
            "data": data,
            "row": GEOMETRY,
            "seed": seed,
            "size": size,
            "stages": {GEOMETRY: stage},
            **made,
        },
    )
    return True
