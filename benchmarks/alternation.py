"""Timing of several functions in alternation, so that all meet the same machine."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout need not be installed


def alternate(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list]:
    """Return the seconds of every call; each round calls all, after a first unmeasured.

    Args:
        functions: what to call, by name.
        rounds: measured calls of each.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if index:
                times[name].append(time.perf_counter() - start)
    return times


def row(name: str, seconds: list[float], against: list[float], **sizes: Any) -> dict:
    """Return median, spread and how many times faster than another."""
    return {
        "name": name,
        **sizes,
        "median_ms": 1e3 * statistics.median(seconds),
        "min_ms": 1e3 * min(seconds),
        "max_ms": 1e3 * max(seconds),
        "ratio": statistics.median(against) / statistics.median(seconds),
    }


def compare(
    what: str,
    times: dict[str, list[float]],
    size: str,
    target: float | None = None,
    each: int = 1,
    note: str = "",
) -> list[dict]:
    """Return a row for every peer: how many times faster the first function is.

    Args:
        what: the claim.
        times: from ``alternate``, ours first.
        size: of the problem, in words.
        target: the least ratio that was asked for.
        each: problems solved in a call.
        note: more words.

    Ratios are of neighbours in time, which what else the machine does meets alike:
    their median, and quartiles (of three calls or fewer: extremes).
    """
    (ours, own), *peers = times.items()
    rows = []
    for peer, other in peers:
        ratios = [b / a for a, b in zip(own, other, strict=True)]
        low, high = min(ratios), max(ratios)
        if len(ratios) > 3:
            low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        rows.append(
            {
                "what": what,
                "ours": ours,
                "against": peer,
                "size": size,
                "ours_ms": 1e3 * statistics.median(own) / each,
                "theirs_ms": 1e3 * statistics.median(other) / each,
                "ratio": statistics.median(ratios),
                "low": low,
                "high": high,
                "target": target,
                "note": note,
            }
        )
    return rows


def absent(what: str, against: str, size: str, note: str = "not installed") -> dict:
    """Return the row of a peer that cannot be asked here."""
    return {
        "what": what,
        "ours": "",
        "against": against,
        "size": size,
        **dict.fromkeys(("ours_ms", "theirs_ms", "ratio", "low", "high", "target")),
        "note": note,
    }


def machine() -> dict[str, Any]:
    """Return what numbers were measured on."""
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(": ")[1] for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(rows: list[dict]) -> str:
    """Return rows, which may have different keys, as Markdown."""
    keys = list(dict.fromkeys(key for entry in rows for key in entry))
    lines = [f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
    for entry in rows:
        lines.append(f"| {' | '.join(_cell(entry.get(key)) for key in keys)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value)


def write_json(content: Any, file: str) -> None:
    """Write a file whole or not at all."""
    with open(f"{file}.tmp", "w", encoding="utf-8") as out:
        json.dump(content, out, indent=1)
    os.replace(f"{file}.tmp", file)


def report(rows: list[dict], file: str | None) -> None:
    """Print a Markdown table and write JSON if a file is named."""
    print(table(rows))
    where = machine()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if file:
        write_json({"machine": where, "rows": rows}, file)
