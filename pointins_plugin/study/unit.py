"""One unit of a study: a row on a data set with a seed, from training to numbers."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pointins_plugin.errors import UserError
from pointins_plugin.host import Config, plain_values
from pointins_plugin.study.ladder import (
    LADDER,
    LINEAR,
    PRETRAINING,
    STAGES,
    WHOLE,
    Ladder,
    Unit,
)
from pointins_plugin.study.linear import VERSION, Probe, fit_heads, score_heads
from pointins_plugin.study.measures import (
    curves,
    draw_probe,
    stage_scores,
    steps_taken,
)
from pointins_plugin.study.provenance import date, provenance
from pointins_plugin.study.runs import Record, Step, run_step, write_json


def mark(size: str) -> str:
    """Return what ends the names of files of a size; of the usual one nothing."""
    return "" if size == "small" else f"-{size}"


def result_path(results: Path, unit: Unit, size: str) -> Path:
    """Return the file that holds what a finished unit gave."""
    return results / "runs" / f"{unit.name}{mark(size)}.json"


def figure_path(results: Path, data: str, name: str, size: str) -> Path:
    """Return the picture of a row, or a data set's curves."""
    return results / "figures" / f"{data}-{name}{mark(size)}.png"


def worst_path(results: Path, data: str, seed: int, size: str) -> Path:
    """Return the picture of the scene that the whole method does worst on."""
    return figure_path(results, data, f"worst-seed{seed}", size)


def read_result(path: Path) -> dict[str, Any] | None:
    """Return a unit's result, None where there is none that can be read.

    A linear probe of another version is left out, and so is made anew.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        stages = dict(result["stages"])
        if LINEAR in stages and stages[LINEAR].get("version") != VERSION:
            del stages[LINEAR]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return {**result, "stages": stages}


def digest(cfg: Config) -> str:
    """Return a hash of what a config says, whatever its seed and its data's place."""

    def without_places(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_places(v) for k, v in value.items() if k != "data_root"}
        if isinstance(value, list):
            return [without_places(item) for item in value]
        return value

    values = {key: plain_values(cfg[key]) for key in cfg if key != "seed"}
    text = json.dumps(without_places(values), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def status(
    ladder: Ladder, unit: Unit, size: str, results: Path, skip: tuple[str, ...] = ()
) -> str:
    """Return ``"done"``, ``"to do"``, or ``"changed"``: done with another config."""
    result = read_result(result_path(results, unit, size))
    if result is None:
        return "to do"
    found = result["stages"]
    wanted = [stage for stage in unit.stages() if stage not in skip]
    for stage in wanted:
        settings = found.get(stage, {}).get("settings")
        if settings and settings != digest(ladder.config(unit, stage, size)):
            return "changed"
    return "done" if all(stage in found for stage in wanted) else "to do"


def forget(unit: Unit, size: str, out: Path, results: Path) -> None:
    """Delete a unit's runs and result, so that it is run anew."""
    shutil.rmtree(unit_folder(unit, out), ignore_errors=True)
    result_path(results, unit, size).unlink(missing_ok=True)


def unit_folder(unit: Unit, out: Path) -> Path:
    """Return the folder of a unit's training runs."""
    return out / unit.data / unit.row.name / f"seed{unit.seed}"


def run_unit(
    ladder: Ladder,
    unit: Unit,
    size: str,
    out: Path,
    results: Path,
    skip: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and measure a unit to its end, and write its result.

    Stages that are done are not repeated; stages of an earlier result stay in it.

    Args:
        ladder: the study.
        unit: what to run.
        size: of the study.
        out: folder of training runs.
        results: folder of results and figures.
        skip: stages to leave out.
        say: told what is being done.

    Returns:
        What is written.

    Raises:
        UserError: a stage failed, or its folder holds another run.
    """
    folder = unit_folder(unit, out)
    path = result_path(results, unit, size)
    before = read_result(path) or {}
    stages = {k: v for k, v in before.get("stages", {}).items() if k in STAGES}
    result = {
        "data": unit.data,
        "row": unit.row.name,
        "part": unit.row.part,
        "title": unit.row.title,
        "seed": unit.seed,
        "size": size,
        "config": unit.row.config,
        "change": plain_values({**unit.row.change, **unit.row.replace}),
        "stages": stages,
    }
    if "encoder_parameters" in before:
        result["encoder_parameters"] = before["encoder_parameters"]
    written = before or result
    began = provenance()
    start = _pretrained(unit, folder) if PRETRAINING in skip else None
    for stage in unit.stages():
        if stage in skip:
            continue
        cfg = ladder.config(unit, stage, size)
        say(f"{unit.name}: {stage}")
        if stage == LINEAR:
            origin = _origin(start)
            made = {"settings": digest(cfg), "start": origin, "version": VERSION}
            if made.items() <= stages.get(LINEAR, {}).items():
                continue
            place = provenance()
            probe, found = _linear(cfg, start)
            stages[LINEAR] = {**made, **found, **place, "date": date()}
            result["encoder_parameters"] = _weights(probe)
            if unit.row.part == LADDER:
                _draw(ladder, unit, size, results, probe, found["scores"])
        else:
            file = folder / f"{stage}.py"
            folder.mkdir(parents=True, exist_ok=True)
            cfg.dump(file)
            title = f"{unit.name} {stage}"
            step = Step(title, folder / stage, str(file), start=start)
            record = run_step(step)
            if stage == PRETRAINING:
                start = step
            stages[stage] = {
                "settings": digest(cfg),
                "scores": stage_scores(step.folder),
                "curves": curves(step.folder),
                "steps": steps_taken(step.folder),
                "seconds": round(record.seconds, 1),
                "checkpoint": record.digest,
                **record.provenance,
            }
        written = {**result, **began, "date": date()}
        write_json(path, written)
    return written


def _pretrained(unit: Unit, folder: Path) -> Step | None:
    """Return the pre-training that was done before; None for random weights."""
    if unit.row.config is None:
        return None
    step = Step(unit.name, folder / PRETRAINING, str(folder / f"{PRETRAINING}.py"))
    record = Record.of(step.folder)
    if record is None or not record.done or not step.checkpoint.is_file():
        raise UserError(
            f"study: {unit.name} is not pre-trained; do not skip {PRETRAINING}"
        )
    return step


def _origin(start: Step | None) -> str | None:
    """Return what tells one pre-trained checkpoint from another; None without one."""
    record = None if start is None else Record.of(start.folder)
    return None if record is None else record.digest


def _linear(cfg: Config, start: Step | None) -> tuple[Probe, dict[str, Any]]:
    """Fit and score linear heads on what a step has trained."""
    began = time.perf_counter()
    probe = Probe(cfg, None if start is None else start.checkpoint)
    fitted = fit_heads(probe)
    found = {"scores": score_heads(probe), "fitted": fitted}
    return probe, {**found, "seconds": round(time.perf_counter() - began, 1)}


def _weights(probe: Probe) -> int:
    return sum(weight.numel() for weight in probe.model.backbone.parameters())


def _draw(
    ladder: Ladder,
    unit: Unit,
    size: str,
    results: Path,
    probe: Probe,
    scores: Mapping[str, Any],
) -> None:
    """Draw the data set's scene, and where the whole method fails worst."""
    scene = ladder.values["data"][unit.data]["scene"]
    figure = figure_path(results, unit.data, unit.row.name, size)
    if unit.seed == 0 or not figure.is_file():
        draw_probe(probe, scene, unit.row.title, figure)
    worst = scores.get("worst_scene")
    if unit.row.name != WHOLE or not worst:
        return
    seeds = ladder.values["seeds"][LADDER]
    drawn = any(worst_path(results, unit.data, s, size).is_file() for s in seeds)
    if unit.seed == 0 or not drawn:
        figure = worst_path(results, unit.data, unit.seed, size)
        draw_probe(probe, worst["index"], unit.row.title, figure)
