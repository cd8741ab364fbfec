"""Measure every claim of speed beside what a user would use instead.

    python benchmarks/run.py [--quick] [--only views kmeans] [--json out.json]
        [--threads 1] [--readme]

Each claim has a file of its own here and runs in a process of its own, in which ours
and its peers take turns. ``--quick`` takes fewer rounds and smaller problems.
``--readme`` writes the table into README.md; of an existing ``--json`` the rows of
claims that are not run again are kept. Peers: ``pip install -e .[bench]``, and
Pointcept where ``POINTCEPT_ROOT`` names a checkout; those that are not there are said.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from alternation import absent, machine, write_json

HERE = Path(__file__).parent
BEGIN, END = "<!-- written by run.py -->", "<!-- end -->"

# file: words of a whole run, words of a quick one
CLAIMS = {
    "branch_step": (("--networks", "demo", "half"), ("--networks", "demo")),
    "pointcept_overhead": ((), ("--rounds", "3")),
    "views": ((), ("--rounds", "5")),
    "grid_sample": ((), ("--rounds", "3")),
    "group_points": ((), ("--points", "20000", "100000", "--rounds", "2")),
    "kmeans": ((), ("--rounds", "5")),
    "sinkhorn": ((), ("--points", "5000", "--rounds", "2")),
    "matching": ((), ("--rounds", "3")),
    "instance_ap": ((), ("--rounds", "4")),
    "panoptic_quality": ((), ("--scans", "2", "--rounds", "4")),
    "startup": ((), ("--rounds", "2")),
    "data_loading": ((), ("--steps", "6")),
}
# of a step over one without what is measured
STEP_LIMIT = 1.10
OVERHEAD_LIMITS = {"PointINS, no branch": 1.05, "PointINS": 1.15}


def run(name: str, words: tuple[str, ...], threads: int) -> list[dict[str, Any]]:
    """Run a claim's file and return its rows, one that says so if it failed."""
    if name == "pointcept_overhead" and not os.environ.get("POINTCEPT_ROOT"):
        row = absent("training step in Pointcept", "Sonata-v1m1", "")
        return [{"claim": name, **row}]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), *words, "--json", str(file)],
            env=environment,
            capture_output=True,
            text=True,
        )
        print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            lines = done.stderr.strip().splitlines() or ["no message"]
            rows = [absent(name, "", "", f"failed: {lines[-1]}")]
            return [{"claim": name, **row} for row in rows]
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    if name in ("branch_step", "pointcept_overhead"):
        rows = [_step(row) for row in rows if row.get("model") != "Sonata-v1m1"]
    return [{"claim": name, **row} for row in rows]


def _step(row: dict[str, Any]) -> dict[str, Any]:
    """Return a training step's row as the others are."""
    if "network" in row:
        words = {
            "what": f"training step, {row['network']} network, branch on",
            "ours": "PointINS",
            "against": "branch off (DOS)",
        }
        ours, theirs = row["PointINS_s"], row["DOS_s"]
        busy, limit = row["ratio_cpu_time"], STEP_LIMIT
    else:
        words = {
            "what": f"training step in Pointcept, {row['model']}",
            "ours": row["model"],
            "against": "Sonata-v1m1",
        }
        ours, theirs = row["step_s"], row["step_s"] / row["ratio"]
        busy, limit = row["process_ratio"], OVERHEAD_LIMITS[row["model"]]
    return {
        **words,
        "size": f"{row['points']:,} points",
        "ours_ms": 1e3 * ours,
        "theirs_ms": 1e3 * theirs,
        "ratio": 1 / row["ratio"],
        "low": 1 / row["ratio_max"],
        "high": 1 / row["ratio_min"],
        "target": 1 / limit,
        "note": f"{row['ratio']:.2f} of its time, {busy:.2f} of its processor time",
    }


def verdict(row: dict[str, Any]) -> str:
    """Return whether a row meets what was asked: yes, no, or nothing to say."""
    if row.get("limit_ms") is not None:
        return "yes" if row["ours_ms"] <= row["limit_ms"] else "no"
    if row.get("waiting_percent") is not None:
        return "yes" if row["waiting_percent"] == 0 else "no"
    if row.get("ratio") is None or row.get("target") is None:
        return ""
    return "yes" if row["ratio"] >= row["target"] else "no"


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| what | against | size | ours | theirs | faster (quartiles) | asked | met |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        faster, asked = row.get("note") or "", ""
        if row.get("ratio") is not None:
            faster = f"{row['ratio']:.2f} ({row['low']:.2f} - {row['high']:.2f})"
            faster += f"; {row['note']}" if row.get("note") else ""
        if row.get("target") is not None:
            asked = f"{row['target']:.2g}"
        if row.get("limit_ms") is not None:
            asked = f"{row['limit_ms']:,} ms"
        if row.get("waiting_percent") is not None:
            asked = "0 %"
        columns = [
            row["what"],
            row["against"],
            row["size"],
            _milliseconds(row.get("ours_ms")),
            _milliseconds(row.get("theirs_ms")),
            faster,
            asked,
            verdict(row),
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def _milliseconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2g} ms" if value < 10 else f"{value:,.0f} ms"


def describe(where: dict[str, Any]) -> str:
    """Return the machine and the versions in a line."""
    return ", ".join(f"{key} {value}" for key, value in where.items())


def main() -> int:
    """Run the claims; return 1 if one of them failed to run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--readme", action="store_true", help="write README.md's table")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    where = {**machine(), "pointcept": bool(os.environ.get("POINTCEPT_ROOT"))}
    rows = []
    if args.json and os.path.exists(args.json):
        known = json.loads(Path(args.json).read_text(encoding="utf-8"))["rows"]
        rows = [row for row in known if row["claim"] not in args.only]
    for name in args.only:
        rows += run(name, CLAIMS[name][args.quick], args.threads)
        if name == "branch_step" and torch.cuda.is_available():
            words = ("--networks", "half", "--device", "cuda", "--amp", "bfloat16")
            rows += run(name, words, args.threads)
        rows.sort(key=lambda row: list(CLAIMS).index(row["claim"]))
        if args.json:  # after every claim: a run that is stopped keeps what it has
            write_json({"machine": where, "rows": rows}, args.json)
    print(as_table(rows), describe(where), sep="\n\n")
    if args.readme:
        path = HERE / "README.md"
        text = path.read_text(encoding="utf-8")
        content = f"{BEGIN}\n{as_table(rows)}\n\n{describe(where)}.\n{END}"
        pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
        text = re.sub(pattern, lambda _: content, text, flags=re.DOTALL)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    return int(any("failed" in (row.get("note") or "") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
