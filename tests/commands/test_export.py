"""`pointins export`: what is written gives the checkpoint's own features."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy_encoder import CONFIG, boxes, write_run

import pointins_plugin
from pointins_plugin.cli import main

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def export(run, tmp_path, *words):
    assert main(["export", "-w", str(run[1]), str(tmp_path / "out"), *words]) == 0
    return tmp_path / "out"


def features(path, branch=None):
    model, transform = pointins_plugin.load(path, branch)
    with torch.no_grad():
        point = model(transform(boxes()))
    return point.feat[point.inverse]


@pytest.mark.parametrize("branch", ["student", "teacher"])
def test_export_gives_the_features_of_the_checkpoint(run, tmp_path, branch, capsys):
    out = export(run, tmp_path, "--branch", branch)
    assert branch in capsys.readouterr().out
    assert torch.equal(features(out), features(run[1], branch))
    weights = safetensors.load_file(out / "model.safetensors")
    own = getattr(run[0], branch).state_dict()
    assert weights
    for key, value in weights.items():
        assert torch.equal(value, own[key])
    spec = json.loads((out / "config.json").read_text())
    assert spec["source"] == {
        "file": "model_last.pth",
        "branch": branch,
        "model": "PointINS",
        "epoch": 3,
    }


def test_student_by_default(run, tmp_path):
    assert torch.equal(features(export(run, tmp_path)), features(run[1], "student"))


def test_the_run_is_not_needed_any_more(tmp_path):
    _, path = write_run(tmp_path / "run")
    expected = features(path)
    out = export((None, path), tmp_path)
    for file in (path, path.parents[1] / "config.py"):
        file.unlink()
    assert torch.equal(features(out), expected)


def test_without_the_head(run, tmp_path):
    out = export(run, tmp_path, "--no-offset-head")
    model, _ = pointins_plugin.load(out)
    assert model.offset_head is None
    keys = safetensors.load_file(out / "model.safetensors")
    assert all(key.startswith("backbone.") for key in keys)
    assert torch.equal(features(out), features(run[1], "student"))


def test_mistakes_write_nothing(run, tmp_path, capsys):
    weight = str(run[1])
    out = tmp_path / "out"

    def fails(*words):
        assert main(["export", str(out), *words]) == 2
        assert not out.exists()
        return capsys.readouterr().err

    assert "does not exist" in fails("-w", str(tmp_path / "none.pth"))
    folder = export(run, tmp_path / "a")
    assert "is an export already" in fails("-w", str(folder))
    wrong = tmp_path / "config.py"
    wrong.write_text(CONFIG.replace("(16, 16, 32)", "(16, 16, 64)"))
    assert "do not fit its config" in fails("-w", weight, "--config-file", str(wrong))
    torch.save({"state_dict": {"x": torch.ones(1)}}, tmp_path / "foreign.pth")
    assert "no backbone" in fails("-w", str(tmp_path / "foreign.pth"))
    state = torch.load(weight, weights_only=True)
    state["state_dict"] = {
        key.removeprefix("student."): value
        for key, value in state["state_dict"].items()
        if key.startswith("student.backbone.")
    }
    (tmp_path / "seg").mkdir()
    (tmp_path / "seg" / "config.py").write_text(CONFIG)
    torch.save(state, tmp_path / "seg" / "model_last.pth")
    branch = ("--branch", "teacher")
    assert "no branches" in fails("-w", str(tmp_path / "seg/model_last.pth"), *branch)


def test_without_safetensors(run, tmp_path, monkeypatch, capsys):
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["export", "-w", str(run[1]), str(tmp_path / "out")]) == 2
    assert 'pip install "pointins[export]"' in capsys.readouterr().err
