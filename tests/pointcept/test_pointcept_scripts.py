"""What a user types: the train script, and Pointcept's own tools."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "epoch=2",
    "eval_epoch=2",
    "batch_size=2",
    "num_worker=2",
    "data.train.num_scenes=4",
    "data.val.num_scenes=2",
    "data.train.transform.3.max_size=1024",
    "model.semantic.hidden_channels=16",
    "model.backbone.enc_channels=(8,8,8,8)",
    "model.backbone.enc_num_head=(1,1,1,1)",
]


def run(words, cwd, **variables):
    environment = {
        k: v for k, v in os.environ.items() if k not in ("POINTINS_HOST", "PYTHONPATH")
    }
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def checkout():
    """Pointcept's folder, which a run must leave as it was."""
    from pointcept import __file__ as package

    root = Path(package).parents[1]
    before = subprocess.run(["git", "status", "-s"], cwd=root, capture_output=True)
    yield root
    after = subprocess.run(["git", "status", "-s"], cwd=root, capture_output=True)
    assert after.stdout == before.stdout


def epochs(path):
    return torch.load(path, weights_only=False)["epoch"]


def test_train_script_snapshots_and_resumes(tmp_path, checkout):
    for name in ("scripts", "configs", "pointins_plugin"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "setup.py", tmp_path)
    script = ["sh", "scripts/train.sh", "-p", sys.executable, "-n", "tiny", "-g", "2"]
    words = [*script, "-c", "pointins/demo-pretrain", "-o", *TINY]
    saver = "hooks.8.save_freq=1"
    done = run([*words, saver], tmp_path, POINTCEPT_ROOT=str(checkout))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "exp" / "pointins" / "tiny"
    for name in ("pointcept", "tools", "libs", "pointins_plugin", "configs"):
        assert (folder / "code" / name).is_dir()
    last = folder / "model" / "model_last.pth"
    assert epochs(last) == 2
    (folder / "model" / "epoch_1.pth").replace(last)
    # the snapshot is what goes on, whatever became of the code
    for file in ("__init__.py", "cli.py"):
        (tmp_path / "pointins_plugin" / file).write_text("raise SystemExit(7)")
    done = run([*script, "-c", "pointins/demo-pretrain", "-r", "true"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Resuming train at eval epoch: 1" in (folder / "train.log").read_text()
    assert epochs(last) == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_the_user_is_one_line(processes, tmp_path, checkout):
    """Also of a process that Pointcept started, whose traceback it would print."""
    words = [sys.executable, "-m", "pointins_plugin.cli", "train", "--num-gpus"]
    words += [processes, "--config-file", "pointins/rooms-insseg-lin", "--options"]
    words += ["batch_size=2", f"save_path={tmp_path / 'run'}"]  # and no weight
    given = {"PYTHONPATH": str(ROOT), "POINTCEPT_ROOT": str(checkout)}
    done = run(words, tmp_path, **given)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pointins: error: ")
    assert "-w" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_stock_tools_train(processes, tmp_path, checkout):
    """A config that names nothing but ``custom_imports``, by Pointcept's own script."""
    words = [sys.executable, "-m", "pointins_plugin.host.pointcept_cpu"]
    words += ["tools/train.py", "--num-gpus", processes, "--config-file"]
    words += [ROOT / "configs/pointins/demo-pretrain.py", "--options", *TINY]
    save = f"save_path={tmp_path / 'run'}"
    done = run([*words, save], checkout, PYTHONPATH=str(ROOT), POINTCEPT_ROOT="")
    assert done.returncode == 0, done.stderr
    assert epochs(tmp_path / "run" / "model" / "model_last.pth") == 2
    report = json.loads((tmp_path / "run" / "label_free.json").read_text())
    assert report


SEGMENTATION = """
_base_ = ["{checkout}/configs/scannet/semseg-spunet-v1m1-0-base.py"]
seed = 0
enable_wandb = False
batch_size = 2
num_worker = 1
epoch = 2
eval_epoch = 2
mix_prob = 0.5
model = dict(backbone=dict(channels=(8,) * 8, layers=(1,) * 8, base_channels=8))
"""


def test_stock_config_trains_evaluates_and_tests(data_folder, tmp_path, checkout):
    """Supervised SpUNet as Pointcept ships it, mixed precision on, smaller."""
    config = tmp_path / "config.py"
    config.write_text(SEGMENTATION.format(checkout=checkout))
    words = [sys.executable, "-m", "pointins_plugin.host.pointcept_cpu"]
    words += ["tools/train.py", "--config-file", config, "--options"]
    words += [f"save_path={tmp_path / 'run'}"]
    for part in ("train", "val", "test"):
        words.append(f"data.{part}.data_root={data_folder / 'data' / 'scannet'}")
    done = run(words, checkout, PYTHONPATH=str(ROOT), POINTCEPT_ROOT="")
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "run" / "train.log").read_text()
    assert "Val result: mIoU" in log
    assert epochs(tmp_path / "run" / "model" / "model_last.pth") == 2
    assert list((tmp_path / "run" / "result").glob("*_pred.npy"))
