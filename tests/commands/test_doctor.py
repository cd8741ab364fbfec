"""`pointins doctor` ends well on any machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pointins_plugin.cli import main
from pointins_plugin.commands.doctor import report
from pointins_plugin.diagnosis import BAD, NONE, OK, Finding

ROOT = Path(__file__).resolve().parents[2]


def test_one_screen(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert all(len(line) <= 100 for line in lines)


def test_json(capsys):
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {"name", "state", "found", "advice"} == set(findings[0])
    assert any(finding["name"] == "torch" for finding in findings)


def test_report():
    good = Finding("a", OK, "there")
    lines = report([good, Finding("longer", NONE, "not there", "costs time")]).split(
        "\n"
    )
    assert lines[0] == "ok  a       there"
    assert lines[1] == "--  longer  not there"
    assert lines[2].strip() == "> costs time"
    assert "nothing is wrong" in lines[-1]
    assert "nothing is wrong" not in report([good, Finding("b", BAD, "old")])


@pytest.mark.parametrize(
    ("package", "error"),
    [
        ("torch", "OSError('libcudart.so.11.0: cannot open shared object file')"),
        ("numpy", "ImportError('numpy.core.multiarray failed to import')"),
        ("scipy", "ValueError('numpy.dtype size changed')"),
    ],
)
def test_a_machine_where_something_is_broken(tmp_path, package, error):
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text(f"raise {error}\n")

    def call(*words):
        paths = os.pathsep.join((str(tmp_path), str(ROOT)))
        return subprocess.run(
            [sys.executable, "-m", "pointins_plugin.cli", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
        )

    done = call("doctor")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "!!" in done.stdout
    assert "memory" in done.stdout
    if "ValueError" in error:  # may be a defect of ours: its traceback is wanted
        return
    done = call("train")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "`pointins doctor` tells what" in done.stderr


@pytest.mark.parametrize(
    "variables", [{"POINTCEPT_ROOT": "/no/where"}, {"POINTINS_HOST": "moon"}]
)
def test_an_environment_that_is_wrong(variables):
    done = subprocess.run(
        [sys.executable, "-m", "pointins_plugin.cli", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **{k: v for k, v in os.environ.items() if k != "POINTINS_HOST"},
            "PYTHONPATH": str(ROOT),
            **variables,
        },
    )
    assert done.returncode == 0, done.stderr
    (value,) = variables.values()
    assert value in done.stdout
    assert "!!  host" in done.stdout
