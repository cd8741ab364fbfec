"""A study's results as Markdown and curves; everything is read from its JSON files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.evaluation.label_free import TITLES
from pointins_plugin.pictures import save_curves, save_dots
from pointins_plugin.study.claims import CLAIMED, Claim, claims
from pointins_plugin.study.ladder import (
    BASELINE,
    GEOMETRY,
    INSTANCES,
    LADDER,
    LINEAR,
    PARTS,
    PRETRAINING,
    SEMANTICS,
    WHOLE,
    Ladder,
    Row,
)
from pointins_plugin.study.tables import (
    NAMES,
    Column,
    Deviation,
    by_seed,
    difference,
    linear_columns,
    main_metrics,
    paired,
    scores_of,
    table,
    worth_of_one,
)
from pointins_plugin.study.unit import figure_path, mark, read_result, worst_path

END = "<!-- study: end -->"
CURVES = "curves"
_GEOMETRIC = ("hdbscan", "plane_components", "oracle")
OVERVIEW = "ladder"
_WITHOUT_LABELS = [
    Column("label-free R²", scores_of(PRETRAINING, "offset_r2"), 2),
    Column("label-free AP50", scores_of(PRETRAINING, "methods", "components", "ap50")),
]
_DIFFERENCES = (
    "Differences, here and below, are means over runs with the same seed, ± half the "
    "95 % interval (Student's t). Two or three seeds say little of their own spread, "
    "so the deviation between seeds is pooled over all rows of a data set and kind of "
    "backbone that have several; a table's last line gives the interval of a single "
    "seed and, in brackets, the degrees of freedom. *Noise*: zero is inside. *Met* or "
    "*not met*: what was expected is outside, else *undecided*. Seeds change weights, "
    "views and sampling, never the scenes."
)


def load_results(folder: Path, size: str) -> list[dict[str, Any]]:
    """Return all results of a size that can be read, in the order of their names."""
    found = (read_result(path) for path in sorted((folder / "runs").glob("*.json")))
    return [r for r in found if r is not None and r.get("size") == size]


def probe_columns(panoptic: bool, trained: bool) -> list[Column]:
    """Return the columns of probes: linear heads, trained heads, fine-tuning."""
    main, *others = main_metrics(panoptic)
    first, *rest = linear_columns(main)
    columns = [first, *(Column(NAMES[key], scores_of(LINEAR, key)) for key in others)]
    columns += rest
    if trained:
        columns += [
            Column(f"trained heads {NAMES[main]}", scores_of(INSTANCES, main)),
            Column("trained mIoU", scores_of(SEMANTICS, "miou")),
        ]
        columns += tuned_columns(main)
    return columns


def tuned_columns(main: str) -> list[Column]:
    """Return the columns of the network tuned whole, by the share of labels."""
    return [
        Column(f"tuned {share} % {NAMES[main]}", scores_of(f"finetuning{share}", main))
        for share in (10, 100)
    ]


def method_columns(stage: str, method: str, prefix: str = "") -> list[Column]:
    """Return the columns of label-free instances by one method."""
    return [
        Column(prefix + NAMES[key], scores_of(stage, "methods", method, key))
        for key in ("map", "ap50", "ap25")
    ]


def label_free_columns() -> list[Column]:
    """Return the columns of what offsets found without labels."""
    columns = [
        Column("R²", scores_of(PRETRAINING, "offset_r2"), 2),
        Column("cosine", scores_of(PRETRAINING, "offset_cosine"), 2),
    ]
    for method, title in (("components", ""), ("modes", "modes ")):
        columns += method_columns(PRETRAINING, method, title)
    return columns


class Report:
    """A study's results by data set and row.

    Args:
        ladder: the study.
        results: from ``load_results``.
        size: theirs.
    """

    def __init__(
        self,
        ladder: Ladder,
        results: Sequence[Mapping[str, Any]],
        size: str = "small",
    ):
        self.ladder = ladder
        self.results = [r for r in results if r["row"] != GEOMETRY]
        self.geometry = [r for r in results if r["row"] == GEOMETRY]
        self.size = size

    def of(self, data: str, row: str) -> list[Mapping[str, Any]]:
        """Return the results of a row, or of geometry alone, a seed each."""
        every = self.geometry if row == GEOMETRY else self.results
        mine = [r for r in every if (r["data"], r["row"]) == (data, row)]
        return sorted(mine, key=lambda r: r["seed"])

    def rows(self, data: str, part: str) -> list[str]:
        """Return the rows of a part that have results, in the ladder's order."""
        names = [name for name, row in self.ladder.rows.items() if row.part == part]
        return [name for name in names if self.of(data, name)]

    def panoptic(self, data: str) -> bool:
        """Whether instances are scored by panoptic quality."""
        return self.ladder.values["data"][data]["instances"] == "panoptic"

    def probes(self, data: str, part: str) -> str:
        """Return the table of what probes found, and what that took."""
        shown = self._shown(data, part)
        columns = [
            column
            for column in probe_columns(self.panoptic(data), part == LADDER)
            if any(column.cell(self.of(data, name)) != "-" for name in shown)
            and self._compared(data, column)
        ]
        minutes = Column("minutes", ("stages", PRETRAINING, "seconds"), 1, 1 / 60)
        rows = [
            [
                self.ladder.rows[name].title,
                *(column.cell(self.of(data, name)) for column in (*columns, minutes)),
                str(sum(LINEAR in r["stages"] for r in self.of(data, name))),
            ]
            for name in shown
        ]
        return table(["", *(c.title for c in (*columns, minutes)), "seeds"], rows)

    def _compared(self, data: str, column: Column) -> bool:
        """Whether a column says anything: trained heads of one row alone do not."""
        if column.place[1] == LINEAR:
            return True
        return all(column.cell(self.of(data, n)) != "-" for n in (BASELINE, WHOLE))

    def _shown(self, data: str, part: str) -> list[str]:
        """Return a table's rows; above ablations the baseline and the whole method."""
        whole = [] if part == LADDER else [BASELINE, WHOLE]
        return [name for name in whole if self.of(data, name)] + self.rows(data, part)

    def label_free(self, data: str, part: str) -> str | None:
        """Return the table of offsets without labels, beside geometry alone."""
        columns = label_free_columns()
        rows = []
        for name in self._shown(data, part):
            found = self.of(data, name)
            cells = [column.cell(found) for column in columns]
            if any(cell != "-" for cell in cells):
                rows.append([self.ladder.rows[name].title, *cells])
        if not rows:
            return None
        rows += self._geometry(data)
        return table(["", *(c.title for c in columns)], rows)

    def _geometry(self, data: str) -> list[list[str]]:
        """Return rows of the baselines that see coordinates only."""
        rows = []
        for method in _GEOMETRIC:
            columns = method_columns(GEOMETRY, method)
            cells = [column.cell(self.of(data, GEOMETRY)) for column in columns]
            if any(cell != "-" for cell in cells):
                background = "ground" if self.panoptic(data) else "planes"
                title = TITLES[method].format(background=background)
                rows.append([f"*{title}*", "", "", *cells, "", "", ""])
        return rows

    def differences(self, data: str, part: str) -> str | None:
        """Return tables of differences, one for each row that others are beside.

        Their last line says how far that of a single seed may be off by chance.
        """
        main = main_metrics(self.panoptic(data))[0]
        every = [*linear_columns(main), *tuned_columns(main), *_WITHOUT_LABELS]
        own = [self.ladder.rows[name] for name in self.rows(data, part)]
        tables = []
        for base in dict.fromkeys(row.beside for row in own):
            rows = [row for row in own if row.beside == base != row.name]
            columns = [c for c in every if any(self._gains(data, r, c) for r in rows)]
            if not columns:
                continue
            spreads = {
                (sparse, c): self._deviation(data, c, sparse)
                for sparse in {row.sparse for row in rows}
                for c in columns
            }
            lines = [
                [row.title]
                + [
                    difference(
                        self._gains(data, row, c), spreads[row.sparse, c], c.digits
                    )
                    for c in columns
                ]
                for row in rows
            ]
            usual = min(row.sparse for row in rows)
            worth = [worth_of_one(spreads[usual, c], c.digits) for c in columns]
            if any(cell != "-" for cell in worth):
                lines.append(["*one seed*", *worth])
            head = f"difference to {self.ladder.rows[base].title}"
            tables.append(table([head, *(c.title for c in columns)], lines))
        return "\n\n".join(tables) or None

    def _deviation(self, data: str, column: Column, sparse: bool) -> Deviation:
        """Return that of a difference of two rows in one seed, from all rows.

        Those of the sparse backbone are apart: another network has another spread.
        """
        rows = (by_seed(column, self.of(data, r.name)) for r in self._alike(sparse))
        return Deviation.between(
            [value for value in row.values() if math.isfinite(value)] for row in rows
        )

    def _alike(self, sparse: bool) -> list[Row]:
        """Return the rows of one kind of backbone."""
        return [row for row in self.ladder.rows.values() if row.sparse == sparse]

    def _gains(self, data: str, row: Row, column: Column) -> list[float]:
        """Return a row's values less those of the row it is beside, a seed each."""
        own, other = self.of(data, row.name), self.of(data, row.beside)
        return paired(by_seed(column, own), by_seed(column, other))

    def expectations(self, name: str) -> str | None:
        """Return what was expected of a row beside what came out, by data set."""
        row = self.ladder.rows[name]
        data = [d for d in self.ladder.values["data"] if self.of(d, name)]
        if not data:
            return None
        rows = [
            [each[0].title]
            + [self._held(claim, d, row) for d, claim in zip(data, each, strict=True)]
            for each in zip(*(claims(self.panoptic(d)) for d in data), strict=True)
        ]
        title = f"{row.title}, to {self.ladder.rows[row.beside].title}"
        return table([title, *data], rows)

    def _held(self, claim: Claim, data: str, row: Row) -> str:
        """Return what became of a claim of a row on a data set."""

        def gains(row: Row) -> list[float]:
            names = (row.name, row.beside, GEOMETRY)
            return claim.gains(*(self.of(data, name) for name in names))

        if claim.other is None:
            deviation = self._deviation(data, claim.own, row.sparse)
        else:
            deviation = Deviation.pooled(gains(r) for r in self._alike(row.sparse))
        return claim.cell(gains(row), deviation)

    def where(self) -> str:
        """Return what the numbers were made by: machines, commits, dates, sizes."""
        stages = [s for r in self.results for s in r["stages"].values()]
        machines, commits = {}, set()
        for entry in (*stages, *self.results):
            if "machine" in entry:
                machines[_machine(entry["machine"])] = None
                commits.update((entry["commit"] or "no checkout").split(", "))
        dates = sorted(r["date"][:10] for r in self.results)
        hours = sum(_minutes(r) for r in self.results) / 60
        days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
        return "\n".join(
            [
                f"Runs: {len(self.results)}, {hours:.1f} hours in all, {days}.",
                "",
                *(f"- Machine: {machine}" for machine in machines),
                f"- Commits: {', '.join(sorted(commits))} (+: with changes)",
            ]
        )

    def sizes(self, data: str) -> str:
        """Return steps and parameters of a data set's runs."""
        runs = [r for r in self.results if r["data"] == data]
        parts = []
        for stage, verb in (
            (PRETRAINING, "pre-training"),
            (INSTANCES, "trained heads of instances"),
            (SEMANTICS, "of classes"),
            ("finetuning100", "fine-tuning"),
        ):
            steps = sorted(
                {r["stages"][stage]["steps"] for r in runs if stage in r["stages"]}
            )
            if steps:
                text = "-".join(str(s) for s in dict.fromkeys((steps[0], steps[-1])))
                parts.append(f"{verb} {text}")
        known = {r["encoder_parameters"] for r in runs if "encoder_parameters" in r}
        weights = " and ".join(f"{size / 1e6:.2f} M" for size in sorted(known))
        encoder = f" Encoder: {weights} parameters." if known else ""
        return f"Steps: {', '.join(parts)}.{encoder}"

    def mixed(self) -> list[str]:
        """Return the rows whose seeds were run with different settings."""
        odd = []
        for data in self.ladder.values["data"]:
            for name in self.ladder.rows:
                found = self.of(data, name)
                for stage in {s for r in found for s in r["stages"]}:
                    runs = [r["stages"][stage] for r in found if stage in r["stages"]]
                    marks = {run.get("settings") for run in runs}
                    if len(marks) > 1:
                        odd.append(f"{name} on {data} ({stage})")
        return odd


def _minutes(result: Mapping[str, Any]) -> float:
    return sum(s.get("seconds", 0) for s in result["stages"].values()) / 60


def _machine(machine: Mapping[str, Any]) -> str:
    gpus = f", {', '.join(machine['gpus'])}" if machine["gpus"] else ", no GPU"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} thread(s) a "
        f"run{gpus}; PyTorch {machine['torch']}, host {machine['host']}"
    )


def readme_table(report: Report) -> str:
    """Return the main ladder in short: the linear probes' columns by data."""
    return _readme_ladder(report, "linear probes", linear_columns)


def readme_tuned(report: Report) -> str:
    """Return the rows of the main ladder that were tuned whole, by data."""
    return _readme_ladder(report, "tuned whole", tuned_columns)


def _readme_ladder(
    report: Report, title: str, kind: Callable[[str], list[Column]]
) -> str:
    """Return the main ladder by data.

    Args:
        report: the study's.
        title: of the table; its first word is left out of those of columns.
        kind: makes columns of a main metric.
    """
    known = f"{title.split()[0]} "
    columns: list[tuple[str, Column]] = []
    for name in report.ladder.values["data"]:
        if not report.rows(name, LADDER):
            continue
        main = main_metrics(report.panoptic(name))[0]
        first, *rest = (
            replace(column, title=column.title.removeprefix(known))
            for column in kind(main)
        )
        columns.append((name, replace(first, title=f"{name}: {first.title}")))
        columns += [(name, column) for column in rest]
    rows = []
    for row in report.ladder.rows.values():
        cells = [column.cell(report.of(data, row.name)) for data, column in columns]
        if row.part == LADDER and any(cell != "-" for cell in cells):
            rows.append([row.title, *cells])
    return table([title, *(column.title for _, column in columns)], rows)


def readme_without_labels(report: Report) -> str:
    """Return instances found without labels, by PointINS and geometry, by data."""
    data = [d for d in report.ladder.values["data"] if report.of(d, WHOLE)]
    rows = []
    for method in ("components", "modes", *_GEOMETRIC):
        row, stage = (GEOMETRY,) * 2 if method in _GEOMETRIC else (WHOLE, PRETRAINING)
        columns = method_columns(stage, method)
        title = TITLES[method].format(background="planes or ground")
        cells = (c.cell(report.of(d, row)) for d in data for c in columns)
        rows.append([title, *cells])
    names = [NAMES[key] for key in ("map", "ap50", "ap25")]
    heads = [f"{d}: {names[0]}" if n == 0 else names[n] for d in data for n in range(3)]
    return table(["without labels", *heads], rows)


README_TABLES: Mapping[str, Callable[[Report], str]] = {
    "linear probes": readme_table,
    "without labels": readme_without_labels,
    "tuned whole": readme_tuned,
}


def study_page(
    report: Report, folder: Path, notes: str = "", changed: Sequence[str] = ()
) -> str:
    """Return the page of a study.

    Args:
        report: its results.
        folder: of results, beside the page; figures that it holds are shown.
        notes: Markdown written by hand, put after the claims; its links are from
            ``folder``.
        changed: names of results whose settings are no more the study's.
    """
    usual = report.size == "small"
    size = "" if usual else f" Size `{report.size}`"
    option = "" if usual else f" --size {report.size}"
    blocks = [
        f"# The study: does it learn instances?{size}",
        f"Generated by `sh scripts/study.sh --report{option}` from the JSON files in "
        f"`{folder.name}/runs`; what is written by hand is "
        f"`{folder.name}/notes{mark(report.size)}.md`.",
    ]
    overview = overview_path(folder, report.size)
    if overview.is_file():
        blocks.append(
            "The main ladder by linear probes; a dot is a seed, the line their mean, "
            "dashed that of DOS, red what the claims are about.\n\n"
            f"![the main ladder]({folder.name}/figures/{overview.name})"
        )
    held = [text for name in CLAIMED if (text := report.expectations(name))]
    if held:
        blocks += ["## What was expected, and what came out", _DIFFERENCES, *held]
    if notes:
        blocks += ["## What it says", notes.strip().replace("](../", "](")]
    blocks += ["## What was run", report.where()]
    blocks.append(
        "Mean ± sample standard deviation over seeds. *Linear*: offsets by ridge and "
        "classes by logistic regression on the frozen backbone's features, instances "
        "grouped of both; *things given*: AP of the same offsets where it is known "
        "which points belong to things, whatever their class. *Trained heads*: those "
        "of PointGroup on the frozen backbone. *Tuned*: the whole network with 10 or "
        "100 % of the labelled scenes, as many steps; either stands here once DOS and "
        "the whole method have it. Minutes are of pre-training."
    )
    if report.mixed():
        mixed = ", ".join(report.mixed())
        blocks.append(f"Seeds of different settings (run again): {mixed}.")
    if changed:
        blocks.append(
            "Made with other settings than the study has now (`--again` repeats them): "
            f"{', '.join(changed)}."
        )
    titles = {"ladder": "Main ladder", "ablations": "Ablations"}
    for data, options in report.ladder.values["data"].items():
        if not any(report.rows(data, part) for part in PARTS):
            continue
        blocks.append(f"## {options['title']}")
        blocks.append(report.sizes(data))
        for part in PARTS:
            if not report.rows(data, part):
                continue
            blocks += [f"### {titles[part]}", report.probes(data, part)]
            makers: tuple[Callable[[str, str], str | None], ...] = (
                report.differences,
                report.label_free,
            )
            blocks += [text for make in makers if (text := make(data, part))]
        blocks += _figures(report, data, folder)
    return "\n\n".join(blocks) + "\n"


def _figures(report: Report, data: str, folder: Path) -> list[str]:
    blocks = []
    curve = figure_path(folder, data, CURVES, report.size)
    if curve.is_file():
        blocks.append(
            "Curves, mean of the seeds: R² of the offsets in pre-training, and trained "
            "heads where there are any.\n\n"
            f"![curves]({folder.name}/figures/{curve.name})"
        )
    pictures = [
        f"![{report.ladder.rows[name].title}]({folder.name}/figures/{file.name})"
        for name in report.rows(data, LADDER)
        if (file := figure_path(folder, data, name, report.size)).is_file()
    ]
    if pictures:
        blocks.append(
            "The linear probes' offsets and instances on one scene, not chosen by "
            "result; ground truth at the right."
        )
        blocks.append("\n\n".join(pictures))
    column = Column("", scores_of(LINEAR, "worst_scene", "map"))
    for result in report.of(data, WHOLE):
        file = worst_path(folder, data, result["seed"], report.size)
        if file.is_file() and (score := column.cell([result])) != "-":
            title = report.ladder.rows[WHOLE].title
            blocks.append(
                f"Where it fails: the scene that the offsets of {title} (seed "
                f"{result['seed']}) are worst on, AP {score} with things given.\n\n"
                f"![the worst scene]({folder.name}/figures/{file.name})"
            )
            break
    return blocks


def overview_path(folder: Path, size: str) -> Path:
    """Return where the picture of the main ladder is."""
    return folder / "figures" / f"{OVERVIEW}{mark(size)}.png"


def overview_panels(
    report: Report,
) -> list[list[tuple[str, list[tuple[str, list[float]]]]]]:
    """Return the main ladder's values for ``save_dots``: a row of panels a data set."""
    rows = []
    for data in report.ladder.values["data"]:
        names = report.rows(data, LADDER)
        panels = []
        for column in linear_columns(main_metrics(report.panoptic(data))[0]):
            lines = [
                (_plain(report, name), [column.value(r) for r in report.of(data, name)])
                for name in names
            ]
            panels.append((f"{data}: {column.title}", lines))
        if names:
            rows.append(panels)
    return rows


def draw_overview(report: Report, folder: Path) -> bool:
    """Draw the main ladder; return whether there was anything."""
    rows = overview_panels(report)
    if rows:
        save_dots(
            overview_path(folder, report.size),
            rows,
            reference=_plain(report, BASELINE),
            marked={_plain(report, name) for name in CLAIMED},
        )
    return bool(rows)


def _plain(report: Report, name: str) -> str:
    """Return a row's title without Markdown."""
    return report.ladder.rows[name].title.replace("*", "")


def draw_curves(report: Report, data: str, folder: Path) -> bool:
    """Draw the curves of a data set's ladder; return whether there were any."""
    main = main_metrics(report.panoptic(data))[0]
    panels = []
    for title, unit, place in (
        ("R² of the teacher's offsets", "step", (PRETRAINING, "curves", "shift_r2")),
        (f"trained heads, {NAMES[main]}", "evaluation", (INSTANCES, "curves", main)),
    ):
        lines = []
        for name in report.rows(data, LADDER):
            curve = _mean_curve(report.of(data, name), place)
            if curve is not None:
                lines.append((report.ladder.rows[name].title, *curve))
        if lines:
            panels.append((title, unit, lines))
    if panels:
        save_curves(figure_path(folder, data, CURVES, report.size), panels)
    return bool(panels)


def _mean_curve(results, place) -> tuple[list[float], list[float]] | None:
    values: dict[float, list[float]] = {}
    for result in results:
        found: Any = result["stages"]
        for key in place:
            found = found.get(key) or {}
        for x, y in found or ():
            values.setdefault(x, []).append(y)
    if not values:
        return None
    x = sorted(values)
    return x, [float(np.mean(values[key])) for key in x]


def begin(name: str) -> str:
    """Return the marker that a generated table of a page stands after."""
    return f"<!-- study: {name} -->"


def put_between(text: str, name: str, part: str) -> str:
    """Return a page with a table put between its markers; as it was without them."""
    before, start, rest = text.partition(begin(name))
    _, end, after = rest.partition(END)
    if not (start and end):
        return text
    return f"{before}{start}\n{part.strip()}\n{end}{after}"
