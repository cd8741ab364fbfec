"""Any config as a run of seconds: few channels, tiny data, one pass."""

import copy
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pointins_plugin.datasets import fake_layouts, rooms, streets
from pointins_plugin.host import build_model

POINTS = 1500
CHANNELS = 8
# options of made-up data sets
SIZES = {"RoomsDataset": {"num_scenes": 2}, "StreetsDataset": {"num_scenes": 2}}


def _splits(part):
    split = part.get("split", "train")
    return [split] if isinstance(split, str) else list(split)


def _scenes(splits):
    return 2 if len(splits) == 1 else 1


def _folder(root, part, num_classes):
    splits = [split.replace("*", "0") for split in _splits(part)]
    fake_layouts.write_folder(
        root, splits, _scenes(splits), num_points=POINTS, num_classes=num_classes or 8
    )


def _scannet(root, part, num_classes):
    splits = _splits(part)
    fake_layouts.write_scannet(root, splits, _scenes(splits), num_points=POINTS)


def _s3dis(root, part, num_classes):
    fake_layouts.write_s3dis(root, num_points=POINTS)


def _scannetpp(root, part, num_classes):
    splits = _splits(part)
    fake_layouts.write_scannetpp(root, splits, _scenes(splits), num_points=POINTS)


def _structured3d(root, part, num_classes):
    splits = _splits(part)
    fake_layouts.write_structured3d(root, splits, _scenes(splits), num_points=POINTS)


def _scannet_pairs(root, part, num_classes):
    fake_layouts.write_scannet_pairs(root, num_points=POINTS)


def _nuscenes(root, part, num_classes):
    fake_layouts.write_nuscenes(root, num_points=POINTS)


def _semantic_kitti(root, part, num_classes):
    fake_layouts.write_semantic_kitti(root, range(22), scans=1, num_points=POINTS)


WRITERS = {
    "FolderDataset": _folder,
    "DefaultDataset": _folder,
    "ScanNetDataset": _scannet,
    "ScanNet200Dataset": _scannet,
    "S3DISDataset": _s3dis,
    "ScanNetPPDataset": _scannetpp,
    "HM3DDataset": _folder,
    "Structured3DDataset": _structured3d,
    "ScanNetPairDataset": _scannet_pairs,
    "NuScenesDataset": _nuscenes,
    "NuScenesPanopticDataset": _nuscenes,
    "SemanticKITTIDataset": _semantic_kitti,
    "SemanticKITTIPanopticDataset": _semantic_kitti,
}


class TinyData:
    """Tiny data sets, each written when a config first asks for it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.roots = {}

    def put_into(self, part, num_classes):
        """Let a dataset's config, and those inside it, read tiny data."""
        if isinstance(part, list):
            for entry in part:
                self.put_into(entry, num_classes)
        if not isinstance(part, dict):
            return
        for key, value in part.items():
            if not key.endswith("transform"):
                self.put_into(value, num_classes)
        part.update(SIZES.get(part.get("type"), {}))
        if part.get("test_cfg"):  # one augmented copy of a scene
            del part["test_cfg"]["aug_transform"][1:]
        if "data_root" in part:
            part["data_root"] = str(self._root(part, num_classes))

    def _root(self, part, num_classes):
        writer = WRITERS.get(part["type"])
        if writer is None:
            pytest.fail(f"tiny_run.WRITERS has no data for {part['type']}")
        key = (writer, *_splits(part), num_classes)
        if key not in self.roots:
            self.roots[key] = self.folder / str(len(self.roots))
            writer(self.roots[key], part, num_classes)
        return self.roots[key]


def thinned(make):
    """Return a maker of scenes that makes each once, and keeps few of its points."""

    @lru_cache
    def scene(*place, **options):
        made = make(*place, **options)
        step = max(1, len(made["coord"]) // (2 * POINTS))
        return {
            key: value[::step] if isinstance(value, np.ndarray) else value
            for key, value in made.items()
        }

    return scene


def thin_generators(monkeypatch):
    """Let the procedural data sets give scenes as small as the fake ones."""
    monkeypatch.setattr(rooms, "make_room", thinned(rooms.make_room))
    monkeypatch.setattr(streets, "make_street", thinned(streets.make_street))


def shrink(model):
    """Return a model's config with few channels, its structure kept."""
    model = copy.deepcopy(model)
    backbone = model.backbone
    if "enc_depths" in backbone:
        stages = len(backbone.enc_depths)
        _narrow(backbone, "enc", stages)
        decodes = not backbone.get("enc_mode", False)
        if decodes:
            _narrow(backbone, "dec", stages - 1)
        channels = CHANNELS if decodes else CHANNELS * stages
    else:
        stages = len(backbone.layers)
        backbone.update(
            base_channels=CHANNELS, channels=(CHANNELS,) * stages, layers=(1,) * stages
        )
        channels = CHANNELS
        if "head_in_channels" in model:
            model.head_in_channels = channels
    if "backbone_out_channels" in model:
        model.backbone_out_channels = channels
    if model.get("semantic"):
        model.semantic.embed_channels = 8
        if model.semantic.type != "ContrastObjective":
            model.semantic.update(hidden_channels=16, num_prototypes=16)
    if model.get("offset_branch"):
        model.offset_branch.hidden_channels = 16
    return model


def _narrow(backbone, part, stages):
    backbone[f"{part}_depths"] = (1,) * stages
    backbone[f"{part}_channels"] = (CHANNELS,) * stages
    backbone[f"{part}_num_head"] = (1,) * stages


def pretrained(model, path):
    """Write a checkpoint of pre-training that fits a downstream model's backbone."""
    state = build_model(model).state_dict()
    torch.save(
        {
            "state_dict": {
                f"student.{key}": value
                for key, value in state.items()
                if key.startswith("backbone.") and ".dec." not in key
            }
        },
        path,
    )


def tiny(cfg, data, folder):
    """Return the config of a run as small as it gets, in a folder of its own."""
    cfg = copy.deepcopy(cfg)
    cfg.model = shrink(cfg.model)
    for part in ("train", "val", "test"):
        if part in cfg.data:
            data.put_into(cfg.data[part], cfg.data.get("num_classes"))
    for key, value in {
        "save_path": str(folder / "run"),
        "num_worker": 0,
        "batch_size": 4,  # at most: fewer where there are fewer scenes
        "epoch": 1,
        "eval_epoch": 1,
        "seed": 0,
    }.items():
        cfg[key] = value
    if any(hook.type == "PretrainedLoader" for hook in cfg.hooks):
        cfg.weight = str(folder / "pretrained.pth")
        pretrained(cfg.model, cfg.weight)
    return cfg
