"""docs/own-scans.md, followed word by word on scans of boxes, for a step or two."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy_encoder import boxes

from pointins_plugin.cli import main
from pointins_plugin.host import HOST
from pointins_plugin.ply import read_ply, write_ply

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

    _, _, _, config, *options = words("sh scripts/train.sh")
    assert (DOCS.parent / config).is_file()
    options = [f"save_path={tmp_path}/exp", "epoch=1", "eval_epoch=1", "num_worker=0"]
    train = ["train", "--config-file", str(DOCS.parent / config), "--options"]
    assert main([*train, *options]) == 0
    assert "Traceback" not in capsys.readouterr().err

    command = words("pointins predict")[1:-1]
    weight = "exp/model/model_last.pth"
    assert main([*command, weight, "--out", "found", "--no-picture"]) == 0
    found = read_ply(tmp_path / "found" / "one.ply")
    assert len(found["instance"]) == len(boxes()["coord"])


def test_a_prior_by_hand_takes_the_place_of_the_file():
    (text,) = re.findall(r'offset_branch\.prior="(.+?)"', PAGE)
    from pointins_plugin.host.standalone.config import Config, parse_value
    from pointins_plugin.priors import build_prior

    cfg = Config.fromfile(DOCS / "examples" / "own-scans.py")
    cfg.merge_from_dict({"model.offset_branch.prior": parse_value(text)})
    assert build_prior(cfg.model.offset_branch.prior).median == pytest.approx(
        3.3 * 0.1, rel=0.02
    )
