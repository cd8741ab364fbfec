"""Values of a study's results, and cells and tables made of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from pointins_plugin.study.ladder import LINEAR
from pointins_plugin.study.scores import summary

NAMES = {"map": "AP", "ap50": "AP50", "ap25": "AP25", "pq": "PQ", "rq": "RQ"}
NAMES.update(sq="SQ", miou="mIoU")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: of the column.
        place: keys of the value inside a result.
        digits: shown after the point.
        scale: that the value is multiplied by.
    """

    title: str
    place: tuple[str, ...]
    digits: int = 1
    scale: float = 1.0

    def value(self, result: Mapping[str, Any]) -> float:
        """Return the value in a result, NaN where there is none."""
        found: Any = result
        for key in self.place:
            if not isinstance(found, Mapping) or found.get(key) is None:
                return math.nan
            found = found[key]
        return float(found) * self.scale

    def cell(self, results: Iterable[Mapping[str, Any]]) -> str:
        """Return mean and deviation over results, ``-`` where there is no value."""
        return spread(summary([self.value(r) for r in results]), self.digits)


def spread(value: Mapping[str, Any], digits: int = 1) -> str:
    """Return a ``summary`` as text."""
    if value["mean"] is None:
        return "-"
    deviation = "" if value["std"] is None else f" ± {value['std']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{deviation}"


def scores_of(stage: str, *place: str) -> tuple[str, ...]:
    """Return where a stage's score is inside a result."""
    return ("stages", stage, "scores", *place)


def main_metrics(panoptic: bool) -> tuple[str, str, str]:
    """Return the keys of the three scores of instances, the first being the main."""
    return ("pq", "rq", "sq") if panoptic else ("map", "ap50", "ap25")


def linear_columns(main: str) -> list[Column]:
    """Return the columns that rows are compared by; ``main`` is the score's key."""
    return [
        Column(f"linear {NAMES[main]}", scores_of(LINEAR, main)),
        Column("mIoU", scores_of(LINEAR, "miou")),
        Column("AP, things given", scores_of(LINEAR, "true_things", "map")),
        Column("R² of offsets", scores_of(LINEAR, "offset_r2"), 2),
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def by_seed(column: Column, results: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """Return a column's value of each result, by seed."""
    return {result["seed"]: column.value(result) for result in results}


def paired(own: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Return the differences of two rows' values, seed by seed.

    Teacher-student rows of one seed start from the same weights, PointContrast's
    shares most of them. A seed that one of them lacks is left out.
    """
    found = (own[seed] - other[seed] for seed in sorted(own.keys() & other.keys()))
    return [value for value in found if math.isfinite(value)]


@dataclass(frozen=True)
class Deviation:
    """How far a difference of one seed is from its mean, pooled over rows.

    Two or three seeds say next to nothing of their own spread: two that happen to
    agree would make any difference look certain. So the deviation between seeds is
    taken to be the same for all rows of a data set, and estimated from all of them.

    Attributes:
        value: standard deviation; NaN where no row has two seeds.
        free: degrees of freedom it was estimated with.
    """

    value: float
    free: int

    @classmethod
    def pooled(cls, rows: Iterable[Sequence[float]]) -> "Deviation":
        """Pool rows of values that are differences already, a seed each."""
        several = [np.asarray(row) for row in rows if len(row) > 1]
        free = sum(len(row) - 1 for row in several)
        squares = sum(float(np.square(row - row.mean()).sum()) for row in several)
        return cls(math.sqrt(squares / free) if free else math.nan, free)

    @classmethod
    def between(cls, rows: Iterable[Sequence[float]]) -> "Deviation":
        """Return that of the difference of two rows, from each row's own values.

        Rows of one seed are taken to be independent. They share their first weights
        and the order of scenes, but differences taken by seed spread about as much
        (``docs/decisions.md``), and are estimated from fewer runs.
        """
        own = cls.pooled(rows)
        return cls(math.sqrt(2) * own.value, own.free)

    def interval(self, seeds: int) -> float:
        """Return half the 95 % interval of a mean over seeds, by Student's t."""
        if not self.free or not seeds:
            return math.nan
        return float(student_t.ppf(0.975, self.free)) * self.value / math.sqrt(seeds)


def difference(gains: Sequence[float], deviation: Deviation, digits: int = 1) -> str:
    """Return the mean of paired differences, its 95 % interval, and its worth.

    Where the interval holds zero it is called noise.
    """
    if not gains:
        return "-"
    mean = float(np.mean(gains))
    error = deviation.interval(len(gains))
    said = [] if math.isnan(error) else [f"± {error:.{digits}f}"]
    said += {1: ["one seed"], 2: ["two seeds"]}.get(len(gains), [])
    if abs(mean) <= error:
        said.append("noise")
    return f"{mean:+.{digits}f} ({', '.join(said)})" if said else f"{mean:+.{digits}f}"


def verdict(gains: Sequence[float], deviation: Deviation, least: float) -> str:
    """Return whether a mean difference is above ``least``: met, not met, undecided.

    Undecided where the interval holds ``least``, or there is none.
    """
    mean = float(np.mean(gains))
    error = deviation.interval(len(gains))
    if abs(mean - least) > error:
        return "met" if mean > least else "**not met**"
    return "undecided"


def worth_of_one(deviation: Deviation, digits: int = 1) -> str:
    """Return the interval of a single seed's difference, as text."""
    if not deviation.free:
        return "-"
    return f"± {deviation.interval(1):.{digits}f} ({deviation.free})"
