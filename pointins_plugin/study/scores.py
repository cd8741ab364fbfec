"""Scores of runs, as evaluators wrote them, and their mean over seeds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError

# What evaluators write, and the scores of it that are compared.
REPORTS = {
    "label_free.json": {
        "AP": ("methods", "components", "map"),
        "AP50": ("methods", "components", "ap50"),
        "AP25": ("methods", "components", "ap25"),
        "offset R²": ("offset_r2",),
        "offset cosine": ("offset_cosine",),
    },
    "instance_ap.json": {"AP": ("map",), "AP50": ("ap50",), "AP25": ("ap25",)},
    "semantic.json": {"mIoU": ("miou",), "mAcc": ("macc",), "allAcc": ("allacc",)},
    "panoptic.json": {"PQ": ("pq",), "RQ": ("rq",), "SQ": ("sq",)},
}


def read_report(path: Path) -> dict[str, Any] | None:
    """Return what an evaluator wrote, None if it did not.

    Raises:
        UserError: a damaged report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise _damaged(path) from None
    if not isinstance(report, dict):
        raise _damaged(path)
    return report


def _damaged(path: Path) -> UserError:
    return UserError(
        f"report {path} cannot be read; delete {path.parent}, so that the run is done "
        "anew"
    )


def scores(folder: Path) -> dict[str, float]:
    """Return what a run's last evaluation says, by the name of the score.

    Raises:
        UserError: a damaged report.
    """
    found = {}
    for file, places in REPORTS.items():
        report = read_report(folder / file)
        if report is None:
            continue
        try:
            for name, place in places.items():
                value: Any = report
                for key in place:
                    value = value[key]
                found[name] = float("nan") if value is None else float(value)
        except (ValueError, KeyError, TypeError):
            raise _damaged(folder / file) from None
    return found


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return number, mean and sample standard deviation; None where there is none."""
    known = np.array([value for value in values if np.isfinite(value)])
    return {
        "values": [float(v) if np.isfinite(v) else None for v in values],
        "mean": float(known.mean()) if len(known) else None,
        "std": float(known.std(ddof=1)) if len(known) > 1 else None,
    }
