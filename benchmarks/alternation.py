"""Timing of several functions in alternation, so that all meet the same machine."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import scipy
import torch


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


def machine() -> dict[str, Any]:
    """Return what numbers were measured on."""
    return {
        "date": date.today().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def report(rows: list[dict], file: str | None) -> None:
    """Print a Markdown table and write JSON if a file is named."""
    keys = list(rows[0])
    print(f"| {' | '.join(keys)} |\n|{'---|' * len(keys)}")
    for entry in rows:
        values = (
            f"{v:.3g}" if isinstance(v, float) else str(v) for v in entry.values()
        )
        print(f"| {' | '.join(values)} |")
    where = machine()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if file:
        with open(f"{file}.tmp", "w", encoding="utf-8") as out:
            json.dump({"machine": where, "rows": rows}, out, indent=1)
        os.replace(f"{file}.tmp", file)
