"""Where a number comes from: date, commit and machine."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from pointins_plugin.host import HOST
from pointins_plugin.paths import PACKAGE


def provenance() -> dict[str, Any]:
    """Return ``date`` (UTC, seconds), ``commit`` and ``machine``; plain values."""
    return {
        "date": date(),
        "commit": commit(),
        "machine": machine(),
    }


def date() -> str:
    """Return now, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def joined(first: str | None, then: str | None) -> str | None:
    """Return the commits of a run that was begun at one and went on at another."""
    known = [commit for commit in (first or "").split(", ") if commit]
    if then and then not in known:
        known.append(then)
    return ", ".join(known) or None


def machine() -> dict[str, Any]:
    """Return what decides how long a run takes, and what it ran on."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in gpus],
        "host": HOST,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit(folder: Path = PACKAGE.parent) -> str | None:
    """Return the commit of a checkout, with ``+`` where its files were changed since.

    Results of runs (``docs``, the README's table) are no part of the code. None
    outside a checkout.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return None  # installed somewhere inside another repository
        changed = git("status", "--porcelain", "--", ".", ":!docs", ":!README.md")
        return git("rev-parse", "--short=10", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None
