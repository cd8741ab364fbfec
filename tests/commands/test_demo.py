"""`pointins demo`: a config that it cannot show is refused before it is trained."""

from pathlib import Path

import pytest

from pointins_plugin.cli import main
from pointins_plugin.commands.demo import same_config
from pointins_plugin.host import default_config_parser
from pointins_plugin.paths import find_config

DEMO = find_config("pointins/demo-pretrain")


@pytest.fixture
def begun(tmp_path):
    """Return the folder of a run that was stopped."""
    options = {"save_path": str(tmp_path / "run"), "seed": 3, "num_threads": 1}
    cfg = default_config_parser(DEMO, options)
    cfg.dump(tmp_path / "run" / "config.py")  # as the run's first process does
    (tmp_path / "run" / "model" / "model_last.pth").write_bytes(b"")
    return tmp_path / "run"


def changed(tmp_path, text):
    file = tmp_path / "changed.py"
    file.write_text(f"_base_ = ['{DEMO}']\n{text}\n")
    return str(file)


def test_a_run_goes_on_with_its_own_config_alone(begun, tmp_path, capsys):
    other = changed(tmp_path, "clip_grad = 1.0")
    assert main(["demo", "--config", other, "--out", str(begun)]) == 2
    error = capsys.readouterr().err
    assert "holds a run of another config" in error
    assert error.count("\n") == 1
    assert same_config(DEMO, begun / "config.py")
    assert not same_config(other, begun / "config.py")


@pytest.mark.parametrize("text", ["hooks = []", "evaluate = False"])
def test_what_cannot_be_shown_is_not_trained(tmp_path, text, capsys, monkeypatch):
    monkeypatch.setattr("pointins_plugin.commands.demo.TRAINERS", None)
    out = tmp_path / "out"
    words = ["demo", "--config", changed(tmp_path, text), "--out", str(out)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "does not evaluate without labels" in error
    assert error.count("\n") == 1
    assert not Path(out).exists()
