"""What the shell scripts decide before Python starts, with parts of them replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LACKS_EXTRAS = "_missing() { case $2 in core) ;; *) echo sklearn ;; esac; }"
LACKS_TORCH = "_missing() { echo torch; }"
NO_VENV = "_fill_venv() { PYTHON=.venv; }"


def sh(text, cwd=ROOT, **variables):
    """Run a script's text as if it lay in ``scripts``."""
    left_out = ("POINTINS_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "POINTINS_DATA")
    left_out += ("POINTCEPT_ROOT", "POINTINS_HOST", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    return subprocess.run(
        ["sh", "-c", f"set -eu\n{text}", str(ROOT / "scripts" / "any.sh")],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment | variables,
        check=False,
    )


def environment(lacks, extras, **variables):
    source = f". {ROOT}/scripts/_environment.sh\n{lacks}\n{NO_VENV}\n"
    return sh(f'{source}ensure_environment {extras}\necho "$PYTHON"', **variables)


def test_an_active_environment_may_lack_extras_where_they_are_not_needed():
    done = environment(LACKS_EXTRAS, "demo core", VIRTUAL_ENV="x")
    assert done.stdout.strip() == "python"
    done = environment(LACKS_EXTRAS, "demo", VIRTUAL_ENV="x")
    assert done.stdout.strip() == ".venv"
    assert "the active environment lacks sklearn" in done.stderr


def test_without_an_active_environment_there_is_one_of_its_own():
    assert environment(LACKS_TORCH, "demo core").stdout.strip() == ".venv"


def test_beside_pointcept_no_other_environment_is_taken():
    where = {"VIRTUAL_ENV": "x", "POINTCEPT_ROOT": "/checkout"}
    done = environment(LACKS_TORCH, "demo core", **where)
    assert done.returncode == 2
    assert "lacks torch: pip install -e" in done.stderr
    done = environment(LACKS_TORCH, "demo core", POINTINS_HOST="standalone", **where)
    assert done.stdout.strip() == ".venv"


def test_what_python_warns_of_is_no_package():
    lacks = '_missing() { echo "a warning" >&2; }'
    done = environment(lacks, "demo core", VIRTUAL_ENV="x")
    assert done.stdout.strip() == "python"
    too_old = '_missing() { echo "Python 3.9 is older" >&2; return 1; }'
    done = environment(too_old, "demo core", VIRTUAL_ENV="x")
    assert "lacks a Python that is 3.10 or newer: taking .venv" in done.stderr


@pytest.mark.parametrize(
    ("own", "named", "found"),
    [(False, None, "theirs/data"), (True, None, ""), (False, "else", "else")],
)
def test_data_of_the_checkout_are_read_where_there_are_no_others(
    own, named, found, tmp_path
):
    (tmp_path / "theirs" / "data").mkdir(parents=True)
    if own:
        (tmp_path / "data").mkdir()
    given = {} if named is None else {"POINTINS_DATA": named}
    done = sh(
        f". {ROOT}/scripts/_launch.sh\nPOINTCEPT=theirs\nfind_data\n"
        'echo "${POINTINS_DATA:-}"',
        cwd=tmp_path,
        **given,
    )
    assert done.stdout.strip() == found
    assert ("data are read from" in done.stderr) == (found == "theirs/data")


def test_without_a_checkout_no_folder_is_taken(tmp_path):
    """Not one at the root of the disk either, as /tmp here."""
    part = (ROOT / "scripts" / "_launch.sh").read_text().replace("/data", "/tmp")
    done = sh(f'{part}\nPOINTCEPT=\nfind_data\necho "<${{POINTINS_DATA:-}}>"', tmp_path)
    assert done.stdout.strip() == "<>", done.stderr


@pytest.mark.parametrize("broken", ["scipy", "addict"])
def test_a_broken_package_is_one_line(broken, tmp_path):
    (tmp_path / f"{broken}.py").write_text("raise ImportError('broken')")
    text = f'. {ROOT}/scripts/_launch.sh\n"{sys.executable}" -c "$COMMAND" train'
    done = sh(text, tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 2
    assert done.stderr.startswith("pointins: error: something is not installed")
    assert len(done.stderr.splitlines()) == 1


def test_the_plugin_of_the_run_starts_and_not_that_of_the_folder(tmp_path):
    """A run that goes on takes its snapshot, whatever became of the working copy."""
    (tmp_path / "pointins_plugin").mkdir()
    (tmp_path / "pointins_plugin" / "__init__.py").write_text("raise SystemExit(7)")
    (tmp_path / "pointins_plugin" / "cli.py").write_text("")
    text = f'. {ROOT}/scripts/_launch.sh\n"{sys.executable}" -c "$COMMAND" --version'
    done = sh(text, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pointins ")
    for name in ("train", "test"):
        script = (ROOT / "scripts" / f"{name}.sh").read_text()
        assert f'exec $PYTHON -c "$COMMAND" {name} ' in script
