"""The GPU smoke script where there is no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "gpu_smoke.py"


def run(*words):
    environment = {k: v for k, v in os.environ.items() if k != "POINTCEPT_ROOT"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        capture_output=True,
        text=True,
        env={**environment, "POINTINS_HOST": "standalone"},
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_says_what_it_needs():
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("gpu_smoke: needs a CUDA GPU")
    assert done.stderr.count("\n") == 1


def test_trains_on_cpu(tmp_path):
    words = ["--device", "cpu", "--quick", "--steps", 1, "--hosts", "standalone"]
    done = run(*words, "--dtypes", "bfloat16", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "rows.json").read_text())
    assert report["machine"]["device"] == "cpu"
    assert [row["model"] for row in report["rows"]] == [
        "PointINS, no branch",
        "PointINS",
    ]
    for row in report["rows"]:
        assert (row["host"], row["dtype"]) == ("standalone", "bfloat16")
        assert row["status"] == "ok"
        assert row["step_ms"] > 0
        assert row["points_per_s"] > 0
        assert row["peak_gib"] is None
    table = done.stdout.splitlines()
    assert sum(line.startswith("| standalone |") for line in table) == 2


def test_a_host_that_is_not_there_is_a_row(tmp_path):
    """A host that is not there has its reason for a status."""
    words = ["--device", "cpu", "--quick", "--steps", 1, "--hosts", "pointcept"]
    done = run(*words, "--json", tmp_path / "rows.json")
    assert done.returncode == 1
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["host"] == "pointcept"
    assert "Pointcept cannot be used" in row["status"]
