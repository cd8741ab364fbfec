"""nuScenes with Pointcept's info files."""

import os
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.lidar_files import map_classes, read_labels, read_points
from pointins_plugin.safe_pickle import load_plain

from .datasets import DefaultDataset
from .registry import DATASETS

SPLITS = ("train", "val", "test")

# the 16 classes of the lidarseg benchmark, and the categories each is made of
CLASSES = {
    "barrier": (9,),
    "bicycle": (14,),
    "bus": (15, 16),
    "car": (17,),
    "construction_vehicle": (18,),
    "motorcycle": (21,),
    "pedestrian": (2, 3, 4, 6),
    "traffic_cone": (12,),
    "trailer": (22,),
    "truck": (23,),
    "driveable_surface": (24,),
    "other_flat": (25,),
    "sidewalk": (26,),
    "terrain": (27,),
    "manmade": (28,),
    "vegetation": (30,),
}
_CATEGORIES = 32


@DATASETS.register_module()
class NuScenesDataset(DefaultDataset):
    """``data_root/{raw,info/nuscenes_infos_10sweeps_train.pkl}``, as Pointcept has it.

    Scans give ``coord`` (N, 3) metres in the sensor's frame, ``strength`` (N, 1) in
    0-1 and ``segment`` (N,), the 16 classes of the benchmark. Info files are read as
    plain values: nothing in them is run.

    Args:
        sweeps: the number in the name of the info file.
        split: "train", "val" or "test", or several of them.
        ignore_index: class of points without one.
        Others as in ``DefaultDataset``.

    Raises:
        UserError: a missing or strange info file, a damaged scan.
    """

    def __init__(self, sweeps: int = 10, ignore_index: int = -1, **kwargs):
        self.sweeps = sweeps
        self.learning_map = self.get_learning_map(ignore_index)
        super().__init__(ignore_index=ignore_index, **kwargs)

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "get nuScenes (nuscenes.org) with lidarseg, link it as raw there and make "
            "the info files by Pointcept's pointcept/datasets/preprocessing/nuscenes"
        )

    def get_info_path(self, split: str) -> str:
        """Return the info file of a split."""
        if split not in SPLITS:
            raise UserError(
                f"nuScenes has no split {split!r}; use one of {list(SPLITS)}"
            )
        name = f"nuscenes_infos_{self.sweeps}sweeps_{split}.pkl"
        return os.path.join(self.data_root, "info", name)

    def get_data_list(self) -> list[dict[str, Any]]:
        """Return the entries of the info files."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        entries: list[dict[str, Any]] = []
        for split in splits:
            path = self.get_info_path(split)
            if not os.path.isfile(path):
                raise UserError(f"info file {path} does not exist; {self.hint()}")
            found = load_plain(path, "info file")
            if not isinstance(found, list) or not all(
                isinstance(entry, dict)
                and {"lidar_path", "lidar_token"} <= entry.keys()
                for entry in found
            ):
                raise UserError(
                    f"info file {path} is no list of scans with lidar_path and "
                    "lidar_token; make it anew"
                )
            if not found:
                raise UserError(f"info file {path} lists no scan; make it anew")
            entries += [{**entry, "split": split} for entry in found]
        return entries

    def raw_path(self, *parts: str) -> str:
        """Return a path below ``data_root/raw``."""
        return os.path.join(self.data_root, "raw", *parts)

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scan."""
        entry = self.data_list[idx % len(self.data_list)]
        points = read_points(self.raw_path(entry["lidar_path"]), 5)
        if "gt_segment_path" in entry:
            path = self.raw_path(entry["gt_segment_path"])
            raw = read_labels(path, np.uint8, len(points))
            segment = map_classes(raw, self.learning_map, path)
        else:
            segment = np.full(len(points), self.ignore_index, np.int32)
        return {
            "coord": points[:, :3].copy(),
            "strength": points[:, 3:4] / np.float32(255),
            "segment": segment.astype(np.int64),
            "name": self.get_data_name(idx),
        }

    def get_data_name(self, idx: int) -> str:
        """Return the token of a scan."""
        return self.data_list[idx % len(self.data_list)]["lidar_token"]

    def get_split_name(self, idx: int) -> str:
        """Return the split of a scan."""
        return self.data_list[idx % len(self.data_list)]["split"]

    @staticmethod
    def get_learning_map(ignore_index: int) -> dict[int, int]:
        """Return the class of every category."""
        return {
            **dict.fromkeys(range(_CATEGORIES), ignore_index),
            **{
                category: index
                for index, categories in enumerate(CLASSES.values())
                for category in categories
            },
        }
