"""Values of a study's results, and cells and tables made of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def difference(gains: Sequence[float], digits: int = 1) -> str:
    """Return the mean of paired differences, twice its standard error, its worth.

    Inside twice the standard error it is called noise; of a single seed nothing is
    known, and little of two, which is said.
    """
    if not gains:
        return "-"
    mean = float(np.mean(gains))
    text = f"{mean:+.{digits}f}"
    if len(gains) == 1:
        return f"{text} (one seed)"
    error = 2 * float(np.std(gains, ddof=1)) / math.sqrt(len(gains))
    few = ", two seeds" if len(gains) == 2 else ""
    noise = "" if abs(mean) > error else ", noise"
    return f"{text} (± {error:.{digits}f}{few}{noise})"


def noise_of_one(gains: Iterable[Sequence[float]], digits: int = 1) -> str:
    """Return two standard deviations of one seed's difference, as text.

    Args:
        gains: a row's paired differences each; rows with more than one are pooled.
        digits: shown after the point.
    """
    several = [row for row in gains if len(row) > 1]
    free = sum(len(row) - 1 for row in several)
    if not free:
        return "-"
    squares = sum(float(np.var(row)) * len(row) for row in several)
    return f"± {2 * math.sqrt(squares / free):.{digits}f}"
