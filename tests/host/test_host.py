"""Which host is used, and that both offer the same names."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pointins_plugin.host as host
from pointins_plugin.host.locate import REQUIRED, REQUIRED_ON_CUDA

ROOT = Path(__file__).resolve().parents[2]


def run(*words, **variables):
    hosts = ("POINTINS_HOST", "POINTCEPT_ROOT")
    environment = {k: v for k, v in os.environ.items() if k not in hosts}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def exported(name):
    """Names in ``__all__`` and those imported, of a file that may not import here."""
    tree = ast.parse((ROOT / "pointins_plugin" / "host" / name).read_text())
    listed, imported = [], set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name for alias in node.names}
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            listed = ast.literal_eval(node.value)
    return listed, imported


def test_both_hosts_offer_the_same_names():
    names, imported = exported("names.py")
    others, others_imported = exported("pointcept.py")
    assert names == others
    assert set(names) == imported == others_imported
    assert set(names) < set(dir(host))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"POINTINS_HOST": "pointcep"}, "'pointcep' is no host: use one of auto"),
        (
            {"POINTINS_HOST": "pointcept", "POINTCEPT_ROOT": "/nowhere"},
            "POINTCEPT_ROOT=/nowhere holds no pointcept folder",
        ),
        ({"POINTCEPT_ROOT": "/nowhere"}, "or POINTINS_HOST=standalone"),
    ],
)
def test_a_host_that_cannot_be_used_is_one_line(variables, message):
    done = run("-m", "pointins_plugin.cli", "train", **variables)
    assert done.returncode == 2
    assert done.stderr.startswith("pointins: error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_broken_pointcept_is_left_alone_unless_asked_for(tmp_path):
    """A Pointcept whose requirements are installed, but whose import fails."""
    for name in (*REQUIRED, *REQUIRED_ON_CUDA):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "pointcept").mkdir()
    (tmp_path / "pointcept" / "__init__.py").touch()
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    show = "from pointins_plugin.host import HOST; print(HOST)"
    done = run("-c", show, POINTINS_HOST="auto", PYTHONPATH=path)
    assert done.stdout.strip() == "standalone"
    # what it would have needed to run on CPU is taken back
    show = "import torch, pointins_plugin.host; print(torch.Tensor.cuda)"
    done = run("-c", show, POINTINS_HOST="auto", PYTHONPATH=path)
    assert done.stdout.startswith("<method 'cuda'")
    show = "from pointins_plugin.host import HOST; print(HOST)"
    done = run("-c", show, POINTINS_HOST="pointcept", PYTHONPATH=path)
    assert done.returncode == 2
    assert "its import failed (No module named 'pointcept." in done.stderr
