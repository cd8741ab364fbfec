"""`pointins submit` on streets in the benchmarks' layouts, read by their readers."""

import shutil

import numpy as np
import pytest
import torch

from pointins_plugin.cli import main
from pointins_plugin.commands import submit
from pointins_plugin.datasets import SemanticKITTIPanopticDataset
from pointins_plugin.datasets.street_files import (
    write_nuscenes,
    write_semantic_kitti,
)
from pointins_plugin.errors import UserError
from pointins_plugin.host import Config, build_model
from pointins_plugin.paths import config_root

TINY = dict(
    stride=(2,),
    enc_depths=(1, 1),
    enc_channels=(8, 8),
    enc_num_head=(1, 1),
    enc_patch_size=(64, 64),
    enable_flash=False,
    traceable=True,
)


def setup(tmp_path, config, root, **data):
    """Write a config with a tiny network and a checkpoint of it."""
    cfg = Config.fromfile(config_root() / "pointins" / f"{config}.py")
    cfg.model.backbone.update(TINY)
    cfg.model.backbone_out_channels = 16
    cfg.data.val.update(data_root=str(root), **data)
    cfg.dump(tmp_path / "config.py")
    torch.manual_seed(0)
    model = build_model(cfg.model)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    return [
        "--config-file",
        str(tmp_path / "config.py"),
        "-w",
        str(tmp_path / "model.pth"),
    ]


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    root = tmp_path_factory.mktemp("kitti") / "root"
    return write_semantic_kitti(root, {"val": 1}, frames=2, beams=32)


def test_semantic_kitti_is_read_back_by_the_data_set(tmp_path, kitti, capsys):
    words = setup(tmp_path, "semantickitti-panoptic-lin", kitti, past_sweeps=1)
    out = tmp_path / "out"
    assert main(["submit", *words, "--split", "val", "--out", str(out), "--zip"]) == 0
    assert "wrote 2 scans of SemanticKITTI's val split" in capsys.readouterr().out
    assert (tmp_path / "out.zip").is_file()
    # predictions as labels: the reader must find as many points, and known classes
    copy = tmp_path / "copy"
    shutil.copytree(kitti, copy)
    labels = copy / "dataset/sequences/08/labels"
    shutil.rmtree(labels)
    shutil.copytree(out / "sequences/08/predictions", labels)
    dataset = SemanticKITTIPanopticDataset(split="val", data_root=str(copy))
    scan = dataset.get_data(1)
    assert (scan["segment"] >= 0).all()
    assert len(np.unique(scan["segment"])) > 1


def test_predictions_do_not_depend_on_earlier_draws(tmp_path, kitti):
    """Neither by the points that stand for their cells nor by the curves' order."""
    words = setup(tmp_path, "semantickitti-panoptic-lin", kitti)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        out = tmp_path / str(seed)
        submit.run([*words, "--split", "val", "--out", str(out)])
        folder = out / "sequences/08/predictions"
        found.append([file.read_bytes() for file in sorted(folder.iterdir())])
    assert found[0] == found[1]


@pytest.mark.parametrize("task", ["panoptic", "semseg"])
def test_nuscenes(tmp_path, task):
    root = write_nuscenes(tmp_path / "root", {"test": 1})
    words = setup(tmp_path, f"nuscenes-{task}-lin", root)
    out = tmp_path / "out"
    submit.run([*words, "--out", str(out)])
    (scan,) = (root / "raw/samples/LIDAR_TOP").iterdir()
    num_points = scan.stat().st_size // 20
    if task == "panoptic":
        (file,) = (out / "panoptic/test").iterdir()
        with np.load(file) as content:
            label = content["data"] // 1000
    else:
        (file,) = (out / "lidarseg/test").iterdir()
        label = np.fromfile(file, np.uint8)
    assert len(label) == num_points
    assert label.min() >= 1
    assert label.max() <= 16
    assert (out / "test/submission.json").is_file()


def test_a_pipeline_that_loses_points_is_refused(tmp_path, kitti):
    words = setup(tmp_path, "semantickitti-panoptic-lin", kitti)
    cfg = Config.fromfile(tmp_path / "config.py")
    crop = dict(type="RangeCrop", near=0.0, far=20.0)
    cfg.data.val.transform = [crop, *cfg.data.val.transform]
    cfg.dump(tmp_path / "config.py")
    out = tmp_path / "out"
    with pytest.raises(UserError, match="take out of data"):
        submit.run([*words, "--split", "val", "--out", str(out)])
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "model = {}", "data = {}", "data = None"])
def test_a_config_of_something_else_is_refused(tmp_path, capsys, text):
    (tmp_path / "a.py").write_text(f"epoch = 1\n{text}\n")
    words = ["--config-file", str(tmp_path / "a.py"), "-w", "none.pth"]
    assert main(["submit", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "it has no model, or no data.names" in error
    assert error.count("\n") == 1


def test_other_data_is_refused(tmp_path, capsys):
    words = ["--config-file", "pointins/streets-panoptic-lin", "-w", "none.pth"]
    assert main(["submit", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "data.val is a StreetsDataset" in error
    assert error.count("\n") == 1
