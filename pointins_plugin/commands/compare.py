"""The command ``pointins compare``: the table that a paper would print."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointins_plugin.errors import UserError
from pointins_plugin.files import make_folder, write_text
from pointins_plugin.host import Config, build_dataset, plain_values
from pointins_plugin.options import Parser, non_negative, positive
from pointins_plugin.paths import config_root, find_config
from pointins_plugin.study.provenance import provenance
from pointins_plugin.study.runs import (
    Record,
    Step,
    run_step,
    state,
    write_json,
)
from pointins_plugin.study.scores import scores, summary

UNTRAINED = "untrained"
PRETRAINING = "pre-training"
SPARSE = "-spunet"  # ends the names of configs with the other backbone
_TASKS = ("insseg", "panoptic", "semseg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    add = parser.add_argument
    add(
        "--configs",
        nargs="+",
        required=True,
        metavar="CONFIG",
        help=f"of pre-training; {UNTRAINED!r} probes a random backbone",
    )
    add("--seeds", nargs="+", type=non_negative, default=[0], help="default: 0")
    add(
        "--probes",
        nargs="*",
        metavar="CONFIG",
        help="downstream configs (default: DATA-insseg-lin and the like of the "
        "configs' data); none: what pre-training evaluates alone",
    )
    add("--out", default="exp/compare", help="folder of runs and table")
    add("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of pre-training")
    add("--probe-options", nargs="+", default=[], metavar="KEY=VALUE", help="of probes")
    add("--num-gpus", type=positive, default=1, help="processes of each run")
    add("--dry-run", action="store_true", help="list the runs and what is done")


def run(words: Sequence[str] | None = None) -> None:
    """Train and probe every config with every seed, and print the table.

    Runs that are done are not repeated and one that was stopped goes on; the table in
    ``--out`` is brought up to date after each run. A run that fails is told in one
    line, what starts from it is left out, and the others go on.

    Args:
        words: the options; those of the command line when None.

    Raises:
        UserError: configs that do not belong together, a folder with runs of other
            settings, or (at the end) runs that failed.
    """
    parser = Parser(
        "pointins compare",
        description="Pre-train several configs with several seeds, probe each, and "
        "print mean and standard deviation. Goes on where it was stopped.",
    )
    add_arguments(parser)
    args = parser.parse_args(words)
    steps = plan(args)
    states = [state(step) for step in steps]
    if args.dry_run:
        for step, word in zip(steps, states, strict=True):
            print(f"{word:<6} {step.title}: {step.folder}")
        return
    out = make_folder(args.out)  # or each run would fail by itself
    failed: list[Step] = []
    for number, step in enumerate(steps, 1):
        place = f"[{number}/{len(steps)}] {step.title}"
        if step.start in failed:
            failed.append(step)
            print(f"{place}: left out, what it starts from failed", flush=True)
            continue
        if state(step) == "done":
            print(f"{place}: done before", flush=True)
            continue
        print(f"{place}: {step.folder}", flush=True)
        try:
            record = run_step(step)
        except UserError as error:
            failed.append(step)
            print(f"{place}: {error}", flush=True)
            continue
        print(f"{place}: {record.seconds / 60:.1f} min", flush=True)
        _write(out, steps, args)
    print("\n" + _write(out, steps, args))
    print(f"table     {out / 'table.md'}\nnumbers   {out / 'table.json'}")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(steps)} runs are not done, the first of them "
            f"{failed[0].title}, see above; the same command goes on from here"
        )


def plan(args: argparse.Namespace) -> list[Step]:
    """Return all runs in order: of each config and seed, pre-training and its probes.

    Raises:
        UserError: an unknown config, two of one name, a seed twice, or a probe whose
            backbone is not the one that is pre-trained.
    """
    trained = {_stem(c): find_config(c) for c in args.configs if c != UNTRAINED}
    names = [c if c == UNTRAINED else _stem(c) for c in args.configs]
    for what, values in (("configs", names), ("seeds", args.seeds)):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise UserError(f"--{what}: {twice[0]} is named twice; name it once")
    if args.probes is None:
        probes = default_probes(names)
    else:
        named = [find_config(probe) for probe in args.probes]
        probes = {name: named for name in names}
    if UNTRAINED in names and not probes[UNTRAINED]:
        raise UserError(f"{UNTRAINED!r} needs something to probe it with: --probes")
    files = {*trained.values(), *(file for some in probes.values() for file in some)}
    read = {file: Config.fromfile(file) for file in files}
    for name, file in trained.items():
        for probe in probes[name]:
            _check_backbones(name, read[file], _stem(probe), read[probe])
    steps = []
    for name in names:
        for seed in args.seeds:
            steps += _runs(args, name, trained.get(name), seed, probes[name], read)
    return steps


def _runs(args, name, config, seed, probes, read) -> list[Step]:
    folder = Path(args.out) / name / f"seed{seed}"
    title = f"{name} seed {seed}"
    start = None
    steps = []
    if config is not None:
        options = (*args.options, f"seed={seed}")
        start = Step(
            f"{title}, {PRETRAINING}",
            folder / PRETRAINING,
            config,
            options,
            num_gpus=args.num_gpus,
        )
        steps.append(start)
    for probe in probes:
        options = (*args.probe_options, f"seed={seed}")
        if start is None:
            options += (f"hooks.{loader_place(read[probe], probe)}.required=False",)
        stem = _stem(probe)
        steps.append(
            Step(
                f"{title}, {stem}", folder / stem, probe, options, start, args.num_gpus
            )
        )
    return steps


def default_probes(names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each config the linear probes of its data and backbone.

    An untrained backbone is that of the first config.

    Raises:
        UserError: the data are several, or have no probes.
    """
    trained = [name for name in names if name != UNTRAINED]
    data = sorted({name.partition("-")[0] for name in trained})
    root = config_root() / "pointins"
    probes = {}
    for name in names:
        model = trained[0] if trained and name == UNTRAINED else name
        backbone = SPARSE if model.endswith(SPARSE) else ""
        files = [
            root / f"{prefix}-{task}-lin{backbone}.py"
            for prefix in data
            for task in _TASKS
        ]
        probes[name] = [str(file) for file in files if file.is_file()]
    if len(data) != 1 or not all(probes.values()):
        raise UserError(
            f"configs of {', '.join(data) or 'no data'} name no probes that all share; "
            "name downstream configs by --probes, or --probes alone for none"
        )
    return probes


def _stem(config: str) -> str:
    return Path(config).name.removesuffix(".py")


def _check_backbones(name: str, cfg: Any, probe: str, probe_cfg: Any) -> None:
    own, other = cfg.model["backbone"], probe_cfg.model["backbone"]
    for key in ("type", "in_channels", "enc_channels", "enc_depths", "channels"):
        if (
            key in own
            and key in other
            and plain_values(own[key]) != plain_values(other[key])
        ):
            raise UserError(
                f"{name} trains a backbone of {key}={own[key]}, but {probe} has "
                f"{other[key]}; name fitting probes by --probes"
            )


def loader_place(cfg: Any, probe: str) -> int:
    """Return the place of the hook that loads the backbone."""
    for index, hook in enumerate(cfg["hooks"]):
        if hook["type"] == "PretrainedLoader":
            return index
    raise UserError(
        f"{probe} has no PretrainedLoader among its hooks: it is no probe of a "
        "pre-trained backbone"
    )


def stage_of(step: Step) -> str:
    """Return the table of a run; probes of both backbones share theirs."""
    return step.folder.name.removesuffix(SPARSE)


def collect(steps: Sequence[Step]) -> dict[str, dict[str, Any]]:
    """Return for every stage and config the scores of its finished runs.

    The stage is pre-training or the probe's name; each holds, by config, ``seeds``,
    ``scores`` and ``seconds`` (see ``summary``) and ``provenance`` of each run.
    """
    stages: dict[str, dict[str, Any]] = {}
    for step in steps:
        row = stages.setdefault(stage_of(step), {}).setdefault(
            step.folder.parent.parent.name,
            {"seeds": [], "runs": [], "seconds": [], "provenance": []},
        )
        record = Record.of(step.folder)
        if record is not None and record.done:
            row["seeds"].append(int(step.folder.parent.name.removeprefix("seed")))
            row["runs"].append(scores(step.folder))
            row["seconds"].append(record.seconds)
            row["provenance"].append(record.provenance)
    for rows in stages.values():
        for row in rows.values():
            runs = row.pop("runs")
            names = dict.fromkeys(name for found in runs for name in found)
            row["scores"] = {
                name: summary([found.get(name, float("nan")) for found in runs])
                for name in names
            }
            row["seconds"] = summary(row["seconds"])
    return stages


def format_tables(
    stages: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any]
) -> str:
    """Return Markdown: a table for each stage, a row for each config."""
    blocks = []
    for stage, rows in stages.items():
        names = list(
            dict.fromkeys(name for row in rows.values() for name in row["scores"])
        )
        head = ["config", *names, "minutes", "seeds"]
        lines = [
            f"**{stage}**{_described(data.get(stage, {}))}",
            "",
            f"| {' | '.join(head)} |",
            f"|---|{'--:|' * (len(head) - 1)}",
        ]
        for config, row in rows.items():
            cells = [_cell(row["scores"].get(name), name) for name in names]
            minutes = {
                key: row["seconds"][key] and row["seconds"][key] / 60
                for key in ("mean", "std")
            }
            cells += [_cell(minutes, "minutes"), str(len(row["seeds"]))]
            lines.append(f"| {' | '.join([config, *cells])} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _cell(value: Mapping[str, Any] | None, name: str) -> str:
    if value is None or value["mean"] is None:
        return "-"
    digits = 2 if name.startswith("offset") else 1
    spread = "" if value["std"] is None else f" ± {value['std']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{spread}"


def _described(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    parts = [
        f"{part['scenes']} scenes to {verb}"
        for split, verb in (("train", "train"), ("val", "evaluate"))
        if (part := data.get(split))
    ]
    return f" ({data['type']}: {', '.join(parts)})"


def describe_data(step: Step) -> dict[str, Any]:
    """Return type and numbers of scenes of a run's data, from its own config."""
    cfg = Config.fromfile(step.folder / "config.py")
    described: dict[str, Any] = {"type": cfg.data["train"]["type"]}
    for split in ("train", "val"):
        options = cfg.data.get(split)
        if not options:
            continue
        dataset = build_dataset(options)
        described[split] = {
            "root": options.get("data_root"),
            "split": plain_values(options.get("split")),
            "scenes": len(getattr(dataset, "data_list", dataset)),
        }
    return described


def _write(out: Path, steps: Sequence[Step], args: argparse.Namespace) -> str:
    """Bring the table up to date; return it."""
    stages = collect(steps)
    data: dict[str, Any] = {}
    for step in steps:
        if stage_of(step) not in data and (step.folder / "config.py").is_file():
            data[stage_of(step)] = describe_data(step)
    text = format_tables(stages, data)
    several = len(args.seeds) > 1
    text += "\nMean ± sample standard deviation.\n" if several else "\nOne seed.\n"
    write_text(out / "table.md", text)
    write_json(
        out / "table.json",
        {
            "configs": args.configs,
            "seeds": args.seeds,
            "options": args.options,
            "probe_options": args.probe_options,
            "data": data,
            "num_gpus": args.num_gpus,
            **provenance(),
            "stages": stages,
        },
    )
    return text
