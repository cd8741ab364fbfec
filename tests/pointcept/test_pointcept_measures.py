"""The scripts that measure on Pointcept run and report."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(file, *words):
    done = subprocess.run(
        [sys.executable, str(ROOT / file), *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_smoke_script_has_stock_sonata_beside_ours(tmp_path):
    file = tmp_path / "rows.json"
    words = ["--device", "cpu", "--quick", "--steps", 1, "--hosts", "pointcept"]
    run("scripts/gpu_smoke.py", *words, "--dtypes", "bfloat16", "--json", file)
    rows = json.loads(file.read_text())["rows"]
    models = ["Sonata-v1m1", "PointINS, no branch", "PointINS"]
    assert [row["model"] for row in rows] == models
    assert {(row["host"], row["status"]) for row in rows} == {("pointcept", "ok")}


def test_overhead_is_measured(tmp_path):
    file = tmp_path / "rows.json"
    words = ["--rounds", 1, "--scenes", 1, "--json", file]
    run("benchmarks/pointcept_overhead.py", *words)
    rows = json.loads(file.read_text())["rows"]
    stock, *ours = rows
    assert (stock["model"], stock["ratio"]) == ("Sonata-v1m1", 1)
    assert len(ours) == 2
    assert all(row["process_s"] > 0 for row in rows)
