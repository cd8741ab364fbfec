"""docs/own-scans.md, followed word by word on scans of boxes, for a step or two."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy_encoder import boxes

from pointins_plugin.cli import main
from pointins_plugin.host import HOST, Config, default_config_parser
from pointins_plugin.ply import read_ply, write_ply
from pointins_plugin.priors import build_prior

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "own-scans.md").read_text(encoding="utf-8")


def words(start):
    """Return the page's command that starts so."""
    (line,) = re.findall(rf"^    ({start}.+)$", PAGE, re.M)
    return line.split()


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
    assert default_config_parser(str(config), {}).evaluate is False

    command = words("pointins predict")[1:]
    assert main([*command, "--out", "found", "--no-picture"]) == 0
    found = read_ply(tmp_path / "found" / "one.ply")
    assert len(found["instance"]) == len(boxes()["coord"])


def test_a_prior_by_hand_takes_the_place_of_the_file():
    (text,) = re.findall(r"`prior=(dict\(.+?\))`", PAGE)
    prior = eval(text)
    cfg = Config.fromfile(DOCS / "examples" / "own-scans.py")
    cfg.merge_from_dict({"model.offset_branch.prior": prior})
    found = build_prior(cfg.model.offset_branch.prior)
    assert found.median == pytest.approx(3.3 * prior["scale"], rel=0.02)
