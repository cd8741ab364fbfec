"""docs/own-scans.md: its code and commands on scans of boxes, for an epoch."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy_encoder import boxes

from pointins_plugin.cli import main
from pointins_plugin.host import HOST, Config
from pointins_plugin.ply import read_ply, write_ply
from pointins_plugin.priors import MagnitudePrior, build_prior

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "own-scans.md").read_text(encoding="utf-8")


def words(start):
    """Return the page's command that starts so."""
    (line,) = re.findall(rf"^    ({start}.+)$", PAGE, re.M)
    return line.split()


def logged(run):
    """Return the names of what a run's metrics hold."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["tag"] for line in lines}


@pytest.mark.skipif(HOST != "standalone", reason="runs the standalone trainer")
def test_from_clouds_to_instances(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_scans").mkdir()
    for name in ("one", "two"):
        scene = boxes()
        write_ply(tmp_path / "my_scans" / f"{name}.ply", scene["coord"])
    (code,) = re.findall(r"```python\n(.+?)```", PAGE, re.S)
    exec(code, {})
    (tmp_path / "data/mine/train/broken").mkdir()
    np.save(tmp_path / "data/mine/train/broken/coord.npy", np.zeros((0, 3)))

    assert main(words("pointins check-data")[1:]) == 2  # and names the broken one
    assert "broken" in capsys.readouterr().out
    assert main(words("pointins fit-prior")[1:]) == 2  # so does this
    (tmp_path / "data/mine/train/broken/coord.npy").unlink()
    (tmp_path / "data/mine/train/broken").rmdir()
    assert main(words("pointins check-data")[1:]) == 0
    assert main(words("pointins fit-prior")[1:]) == 0

    (config,) = words("sh scripts/train.sh")[3:]  # and no option
    config = DOCS.parent / config
    train = ["train", "--config-file", str(config), "--options", "num_worker=0"]
    run = Path("exp", config.parent.name, config.stem)  # as scripts/train.sh has it
    small = ["epoch=1", "eval_epoch=1", f"save_path={tmp_path / run}"]
    assert main([*train, *small]) == 0
    assert not any(tag.startswith("val/") for tag in logged(tmp_path / run))

    command = words("pointins predict")[1:]
    assert main([*command, "--out", "found", "--no-picture"]) == 0
    found = read_ply(tmp_path / "found" / "one.ply")
    assert len(found["instance"]) == len(boxes()["coord"])


@pytest.mark.skipif(HOST != "standalone", reason="runs the standalone trainer")
def test_labels_score_the_instances(tmp_path, monkeypatch):
    """The page's `-o evaluate=True`, with labels in val."""
    monkeypatch.chdir(tmp_path)
    scene = boxes()
    number = np.repeat([-1, 0, 1], [2000, 500, 500])
    for split in ("train", "val"):
        folder = tmp_path / "data/mine" / split / "one"
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", scene["coord"])
    np.save(folder / "instance.npy", number)
    np.save(folder / "segment.npy", np.where(number < 0, -1, 0))
    MagnitudePrior.gamma(3.6, 0.03).save("prior.json")
    config = DOCS / "examples" / "own-scans.py"
    words = ["epoch=1", "eval_epoch=1", "num_worker=0", "save_path=run"]
    (option,) = set(re.findall(r"`-o (evaluate=\w+)`", PAGE))
    words = ["--config-file", str(config), "--options", *words, option]
    assert main(["train", *words]) == 0
    assert any(tag.startswith("val/") for tag in logged(tmp_path / "run"))


def test_a_prior_by_hand_takes_the_place_of_the_file():
    (text,) = re.findall(r"`prior=(dict\(.+?\))`", PAGE)
    prior = eval(text)
    cfg = Config.fromfile(DOCS / "examples" / "own-scans.py")
    cfg.merge_from_dict({"model.offset_branch.prior": prior})
    found = build_prior(cfg.model.offset_branch.prior)
    assert found.median == pytest.approx(3.3 * prior["scale"], rel=0.02)
