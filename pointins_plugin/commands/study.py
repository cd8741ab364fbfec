"""The command ``pointins study``: every row of the study, and its page."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pointins_plugin.errors import UserError
from pointins_plugin.files import make_folder, write_text
from pointins_plugin.host import STOP_CODES, StopSignals, build_dataset
from pointins_plugin.options import Parser, non_negative, positive
from pointins_plugin.study.geometry import geometry_config, measure_geometry
from pointins_plugin.study.ladder import (
    FINETUNING,
    LADDER,
    PARTS,
    STAGES,
    TRAINED_HEADS,
    Ladder,
    Unit,
)
from pointins_plugin.study.report import (
    README_TABLES,
    Report,
    draw_curves,
    draw_overview,
    load_results,
    put_between,
    study_page,
)
from pointins_plugin.study.runs import child_environment, last_line
from pointins_plugin.study.unit import (
    digest,
    forget,
    mark,
    run_unit,
    status,
    unit_folder,
)

QUICK = "quick"
_LOG = "unit.log"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        metavar="NAME",
        help="rooms, mosd, streets (default: all here)",
    )
    add("--rows", nargs="+", metavar="NAME", help="default: all; see --dry-run")
    add("--parts", nargs="+", choices=PARTS, help="of the rows (default: both)")
    add("--seeds", nargs="+", type=non_negative, help="default: the study's")
    add(
        "--tuned-seeds",
        nargs="+",
        type=non_negative,
        metavar="SEED",
        help="of which rows of the ladder are fine-tuned (default: the last)",
    )
    add("--skip", nargs="+", choices=STAGES, default=[], help="stages to leave out")
    add("--no-finetuning", action="store_true", help="leave out fine-tuning")
    add(
        "--trained-heads",
        action="store_true",
        help="train heads on the frozen backbones too (always done by --quick)",
    )
    add(
        "--quick",
        action="store_true",
        help="a smoke run, in folders of its own: the ladder with one seed, tiny",
    )
    add("--size", default="small", help="of configs/study/ladder.py (default: small)")
    add("--jobs", type=positive, help="runs at a time (default: a GPU or a core each)")
    add("--out", help="folder of the runs (default: exp/study)")
    add("--results", help="folder of results (default: docs/study)")
    add("--again", action="store_true", help="repeat runs whose config has changed")
    add("--dry-run", action="store_true", help="list the runs and what is done")
    add("--report", action="store_true", help="only write the page anew")
    add("--unit", help=argparse.SUPPRESS)


def run(words: Sequence[str] | None = None) -> None:
    """Run what of the study is not done, and write its page.

    Each row, data set and seed is a process of its own, and one JSON file when it is
    finished. Stopped or killed at any moment, the same command goes on.

    Args:
        words: the options; those of the command line when None.

    Raises:
        UserError: an unknown name, or (at the end) runs that failed.
    """
    parser = Parser(
        "pointins study",
        description="Pre-train and probe every row of the study. Goes on where it was "
        "stopped; results are one JSON file a run.",
    )
    add_arguments(parser)
    args = parser.parse_args(words)
    if args.quick:
        args.size = QUICK
    place = Path(f"exp/study{mark(args.size)}")
    args.out = Path(args.out or place)
    smoke = args.size == QUICK
    args.results = Path(args.results or (place / "results" if smoke else "docs/study"))
    if smoke:
        args.parts = args.parts or ([*PARTS] if args.rows else [LADDER])
    args.parts = args.parts or PARTS
    if args.no_finetuning:
        args.skip = [*args.skip, *FINETUNING]
    if not (args.trained_heads or smoke or args.unit):
        args.skip = [*args.skip, *TRAINED_HEADS]
    args.skip = tuple(dict.fromkeys(args.skip))
    ladder = Ladder.read()
    if smoke:  # the seed that is trained and tuned too, so that all is seen to run
        args.seeds = args.seeds or [*ladder.values["seeds"]["trained"]]
    if args.size not in ladder.values["sizes"]:
        raise UserError(
            f"--size: the study has no {args.size!r}; it has "
            f"{', '.join(ladder.values['sizes'])}"
        )
    if args.unit:
        (unit,) = _named(ladder, args.unit, args.tuned_seeds)
        run_unit(
            ladder,
            unit,
            args.size,
            args.out,
            args.results,
            args.skip,
            say=lambda text: print(text, flush=True),
        )
        return
    failed = None
    if not args.report:
        units = ladder.units(
            args.parts, args.data, args.rows, args.seeds, args.tuned_seeds
        )
        if args.data is None:  # what is named must be there
            units = _with_data(ladder, units, args.size)
        states = {unit: _state(ladder, unit, args) for unit in units}
        if args.dry_run:
            for unit, word in states.items():
                print(f"{word:<8} {unit.name}: {unit.row.title}")
            return
        for folder in (args.out, args.results):  # or each run would fail by itself
            make_folder(folder)
        without = _measure_geometry(ladder, units, args)
        failed = _run_units(args, states) or without
    print(write_page(ladder, args.results, args.size))
    if failed:
        raise UserError(failed)


def _named(ladder: Ladder, name: str, tuned_seeds: Sequence[int] | None) -> list[Unit]:
    data, row, seed = name.split("/")
    return ladder.units(PARTS, [data], [row], [int(seed)], tuned_seeds)


def _with_data(ladder: Ladder, units: Sequence[Unit], size: str) -> list[Unit]:
    """Return the units whose scenes are here, and print which data sets are not."""
    here = {}
    for unit in units:
        if unit.data in here:
            continue
        here[unit.data] = True
        try:
            build_dataset(geometry_config(ladder, unit.data, unit.seed, size).data.val)
        except UserError as error:
            here[unit.data] = False
            why = str(error).partition(";")[0]
            print(f"{unit.data} is left out: {why} (POINTINS_DATA)", flush=True)
    return [unit for unit in units if here[unit.data]]


def _state(ladder: Ladder, unit: Unit, args: argparse.Namespace) -> str:
    word = status(ladder, unit, args.size, args.results, args.skip)
    if word == "changed" and args.again:
        forget(unit, args.size, args.out, args.results)
        return "to do"
    return word


def _measure_geometry(
    ladder: Ladder, units: Sequence[Unit], args: argparse.Namespace
) -> str | None:
    """Measure what coordinates alone find, where it is not known yet.

    Returns what failed in one line, or None.
    """
    failed = None
    for data, seed in dict.fromkeys((unit.data, unit.seed) for unit in units):
        since = time.monotonic()
        try:
            if not measure_geometry(ladder, data, seed, args.size, args.results):
                continue
            said = f"{(time.monotonic() - since) / 60:.1f} min"
        except UserError as error:
            said = str(error)
            failed = failed or f"{data}: geometry alone could not be measured: {said}"
        print(f"{data}, seed {seed}, geometry alone: {said}", flush=True)
    return failed


def _run_units(args: argparse.Namespace, states: dict[Unit, str]) -> str | None:
    """Run what is to do, some at a time; return what failed in one line, or None."""
    changed = [unit.name for unit, word in states.items() if word == "changed"]
    if changed:
        print(
            f"{len(changed)} runs were made with other settings and are kept "
            f"({changed[0]}, ...): --again repeats them"
        )
    todo = [unit for unit, word in states.items() if word == "to do"]
    total, finished = len(todo), 0
    print(f"{len(states) - total} of {len(states)} runs are done", flush=True)
    jobs = args.jobs or _default_jobs()
    running: dict[Unit, tuple[subprocess.Popen, float, int]] = {}
    failed: list[str] = []
    pids: list[int] = []
    notice = "stopping when the runs have saved; Ctrl-C again stops at once"
    with StopSignals(forward=pids, notice=notice) as stop:
        while todo or running:
            while todo and len(running) < jobs and stop.number is None:
                unit = todo.pop(0)
                slot = min(set(range(jobs)) - {slot for _, _, slot in running.values()})
                process = _start(unit, args, jobs, slot)
                running[unit] = (process, time.monotonic(), slot)
                pids.append(process.pid)
            ended = [
                u for u, (process, *_) in running.items() if process.poll() is not None
            ]
            for unit in ended:
                process, since, _ = running.pop(unit)
                pids.remove(process.pid)
                finished += 1
                minutes = (time.monotonic() - since) / 60
                place = f"[{finished}/{total}] {unit.name}"
                if stop.number is not None:
                    continue
                if process.returncode:
                    why = last_line(unit_folder(unit, args.out) / _LOG)
                    if process.returncode in STOP_CODES:
                        why = "a signal stopped it"
                    failed.append(unit.name)
                    print(f"{place}: {why}", flush=True)
                else:
                    print(f"{place}: {minutes:.1f} min", flush=True)
            if stop.number is not None and not running:
                raise SystemExit(128 + stop.number)
            if not ended:
                time.sleep(0.2)
    if failed:
        return (
            f"{len(failed)} of {total} runs failed, the first of them {failed[0]}, see "
            "above; the same command goes on from here"
        )
    return None


def _default_jobs() -> int:
    return _gpus() or _cores()


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(
    unit: Unit, args: argparse.Namespace, jobs: int, slot: int
) -> subprocess.Popen:
    """Start a unit in a process of its own, with its share of cores and GPUs."""
    folder = make_folder(unit_folder(unit, args.out))
    words = ["--unit", f"{unit.data}/{unit.row.name}/{unit.seed}", "--size", args.size]
    words += ["--out", str(args.out), "--results", str(args.results)]
    if args.skip:
        words += ["--skip", *args.skip]
    if args.tuned_seeds:
        words += ["--tuned-seeds", *map(str, args.tuned_seeds)]
    environment = child_environment()
    environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // jobs)))
    gpus = _gpus()
    if gpus > 1:  # of those that a scheduler has given, if one has
        given = environment.get("CUDA_VISIBLE_DEVICES", "")
        names = given.split(",") if given else [str(gpu) for gpu in range(gpus)]
        environment["CUDA_VISIBLE_DEVICES"] = names[slot % gpus].strip()
    with open(folder / _LOG, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pointins_plugin.cli", "study", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def write_page(ladder: Ladder, results: Path, size: str) -> str:
    """Write the study's page beside its results, and its tables into the README.

    The README is left alone where it has no markers, and by other sizes than small.

    Returns:
        The README's tables, and where the page is.
    """
    found = load_results(results, size)
    if not found:
        return f"there are no results in {results / 'runs'} yet"
    report = Report(ladder, found, size)
    draw_overview(report, results)
    for data in ladder.values["data"]:
        draw_curves(report, data, results)
    notes = results / f"notes{mark(size)}.md"
    text = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    page = results.with_name(f"{results.name}{mark(size)}.md")
    changed = _changed(ladder, report.results, size)
    write_text(page, study_page(report, results, text, changed))
    tables = {name: make(report) for name, make in README_TABLES.items()}
    readme = results.parent.parent / "README.md"
    if size == "small" and readme.is_file():
        old = new = readme.read_text(encoding="utf-8")
        for name, text in tables.items():
            new = put_between(new, name, text)
        if new != old:
            write_text(readme, new)
    return "\n\n".join([*tables.values(), f"page      {page}"])


def _changed(ladder: Ladder, found: Sequence[dict], size: str) -> list[str]:
    """Return the names of results that were made with other settings than now.

    Of a row whose prior is read off labelled scenes, which may not be here, nothing is
    said.
    """
    wanted: dict[tuple[str, str, str], str] = {}
    names = []
    for result in found:
        row = ladder.rows.get(result["row"])
        known = row is not None and result["data"] in ladder.values["data"]
        if not known or row.empirical_prior:
            continue
        unit = Unit(result["data"], row, result["seed"])
        for stage, was in result["stages"].items():
            place = (unit.data, row.name, stage)
            if place not in wanted:
                wanted[place] = digest(ladder.config(unit, stage, size))
            if was.get("settings", wanted[place]) != wanted[place]:
                names.append(f"{unit.name} ({stage})")
    return names
