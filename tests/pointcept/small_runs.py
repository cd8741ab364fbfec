"""Shipped configs shrunk to seconds, on random points in the layouts they read."""

import os
from pathlib import Path

import numpy as np
import torch

from pointins_plugin.datasets import fake_layouts
from pointins_plugin.host import (
    TRAINERS,
    build_dataset,
    build_model,
    default_config_parser,
    default_setup,
)
from pointins_plugin.paths import config_root

ROOT = config_root()


def write_data(folder: Path) -> Path:
    """Write every data set that a config names by a path, below ``folder/data``."""
    data = folder / "data"
    splits = ("train", "val", "test")
    fake_layouts.write_scannet(data / "scannet", splits)
    fake_layouts.write_s3dis(data / "s3dis")
    fake_layouts.write_folder(data / "mosd", num_classes=2 + 1)
    for path in (data / "mosd").glob("*/*/segment.npy"):
        np.save(path, np.minimum(np.load(path), 1))
    fake_layouts.write_folder(data / "arkitscenes", ("Training", "Validation"))
    fake_layouts.write_folder(data / "hm3d", ("train", "val"))
    for split in splits:
        fake_layouts.write_folder(data / "structured3d" / split, ("scene_0",))
    fake_layouts.write_semantic_kitti(data / "semantic_kitti", range(11))
    fake_layouts.write_nuscenes(data / "nuscenes", splits)
    _write_pairs(data / "scannet_pair")
    return folder


def _write_pairs(root: Path) -> None:
    rng = np.random.default_rng(0)
    folder = root / "scene0000_00" / "pcd"
    folder.mkdir(parents=True)
    coord = rng.random((2000, 3)) * 2
    for index in range(2):
        keep = slice(500 * index, 500 * index + 1500)
        frame = {"coord": coord[keep], "color": rng.random((1500, 3)) * 255}
        torch.save(frame, folder / f"{index}.pth")
    pair = "/scene0000_00/pcd/0.pth /scene0000_00/pcd/1.pth 0.6\n"
    (folder / "overlap.txt").write_text(pair * 2)


def shrink(model: dict) -> None:
    """Make a model's config small, keeping its structure."""
    backbone = model["backbone"]
    if "enc_depths" in backbone:
        for part in ("enc", "dec"):
            stages = len(backbone.get(f"{part}_depths", ()))
            if stages:
                backbone[f"{part}_depths"] = (1,) * stages
                backbone[f"{part}_channels"] = (8,) * stages
                backbone[f"{part}_num_head"] = (1,) * stages
                backbone[f"{part}_patch_size"] = (64,) * stages
        encoder = backbone.get("enc_mode", False)
        channels = 8 * len(backbone["enc_depths"]) if encoder else 8
    else:
        stages = len(backbone["layers"])
        backbone.update(base_channels=8, channels=(8,) * stages, layers=(1,) * stages)
        channels = 8
        model["head_in_channels"] = 8
    if "backbone_out_channels" in model:
        model["backbone_out_channels"] = channels
    if "semantic" in model:
        model["semantic"]["embed_channels"] = 8
        if model["semantic"]["type"] != "ContrastObjective":
            model["semantic"].update(hidden_channels=8, num_prototypes=8)
    for key in ("cluster_min_points", "cluster_propose_points"):
        if key in model:
            model[key] = 5


def few_scenes(dataset: dict) -> None:
    """Let a data set hold few scenes, each in few points."""
    for part in dataset.get("datasets", [dataset]):
        if "num_scenes" in part:
            part["num_scenes"] = 2
        test = part.get("test_cfg")
        if test:
            test["aug_transform"] = test["aug_transform"][:1]


def path_of(name: str) -> str:
    """Return where a shipped config lies."""
    return str(ROOT / "pointins" / f"{name}.py")


def parse(name: str, folder: Path, **options):
    """Return a shipped config for a short run in ``folder``, its model as it is."""
    os.environ["POINTINS_DATA"] = str(Path("data").absolute())
    cfg = default_config_parser(
        path_of(name),
        {
            "save_path": str(folder),
            "epoch": 1,
            "eval_epoch": 1,
            "batch_size": 1,
            "num_worker": 1,
            "seed": 0,
            **options,
        },
    )
    for part in ("train", "val", "test"):
        if cfg.data.get(part) is not None:
            few_scenes(cfg.data[part])
    return cfg


def small_config(name: str, folder: Path, **options):
    """Return a shipped config for a run of two steps of one sample in ``folder``."""
    cfg = parse(name, folder, **options)
    shrink(cfg.model)
    loader = cfg.hooks[0]
    if loader["type"] == "PretrainedLoader" and not cfg.weight:
        cfg.weight = str(folder / "pretrained.pth")
        torch.save({"state_dict": pretrained(cfg)}, cfg.weight)
    cfg.dump(str(folder / "config.py"))
    return cfg


def pretrained(cfg) -> dict:
    """Return random weights under the names that pre-training gives them."""
    state = build_model(cfg.model).state_dict()
    return {
        f"module.student.{key}": value
        for key, value in state.items()
        if key.startswith("backbone.")
    }


def test_sample(cfg) -> dict:
    """Return the first sample of the test split."""
    return build_dataset(cfg.data.test)[0]


def train(cfg):
    """Train in this process; return the trainer."""
    trainer = TRAINERS.build({"type": cfg.train.type, "cfg": default_setup(cfg)})
    trainer.train()
    return trainer


def names(*, without: tuple[str, ...] = ()) -> list[str]:
    """Return the shipped configs."""
    found = sorted(path.stem for path in (ROOT / "pointins").glob("*.py"))
    return [name for name in found if name not in without]
