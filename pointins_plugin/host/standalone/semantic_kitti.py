"""SemanticKITTI in its published folders."""

import os
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.lidar_files import map_classes, read_labels, read_points

from .datasets import DefaultDataset
from .registry import DATASETS

SEQUENCES = {
    "train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10),
    "val": (8,),
    "test": tuple(range(11, 22)),
}

# the 19 classes of the single-scan benchmark, and the raw id that stands for each
CLASSES = {
    "car": 10,
    "bicycle": 11,
    "motorcycle": 15,
    "truck": 18,
    "other-vehicle": 20,
    "person": 30,
    "bicyclist": 31,
    "motorcyclist": 32,
    "road": 40,
    "parking": 44,
    "sidewalk": 48,
    "other-ground": 49,
    "building": 50,
    "fence": 51,
    "vegetation": 70,
    "trunk": 71,
    "terrain": 72,
    "pole": 80,
    "traffic-sign": 81,
}
# raw ids that count as one of the classes
_MERGED = {
    13: "other-vehicle",  # bus
    16: "other-vehicle",  # on rails
    60: "road",  # lane marking
    252: "car",  # from here on, moving ones
    253: "bicyclist",
    254: "person",
    255: "motorcyclist",
    256: "other-vehicle",
    257: "other-vehicle",
    258: "truck",
    259: "other-vehicle",
}
_UNLABELLED = (0, 1, 52, 99)


@DATASETS.register_module()
class SemanticKITTIDataset(DefaultDataset):
    """``data_root/dataset/sequences/00/{velodyne/*.bin,labels/*.label}``.

    Scans give ``coord`` (N, 3) metres in the sensor's frame, ``strength`` (N, 1) and
    ``segment`` (N,), the 19 classes of the benchmark; the lower half of a raw label is
    the class. A scan without a label file has class 0 everywhere, as in Pointcept.

    Args:
        split: "train" (sequences 00-07, 09, 10), "val" (08) or "test" (11-21), or
            several of them.
        ignore_index: class of points without one.
        Others as in ``DefaultDataset``.

    Raises:
        UserError: no such split, a missing folder, a damaged scan.
    """

    def __init__(self, ignore_index: int = -1, **kwargs):
        self.learning_map = self.get_learning_map(ignore_index)
        self.learning_map_inv = self.get_learning_map_inv(ignore_index)
        super().__init__(ignore_index=ignore_index, **kwargs)

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "get SemanticKITTI (semantic-kitti.org) and link the folder that holds "
            "dataset/sequences there"
        )

    def get_data_list(self) -> list[str]:
        """Return the scans of the split, in the order of sequences and frames."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        scans: list[str] = []
        for split in splits:
            if split not in SEQUENCES:
                raise UserError(
                    f"SemanticKITTI has no split {split!r}; use one of "
                    f"{list(SEQUENCES)}"
                )
            for sequence in SEQUENCES[split]:
                scans += self._scans_of(sequence)
        return scans

    def _scans_of(self, sequence: int) -> list[str]:
        folder = os.path.join(
            self.data_root, "dataset", "sequences", f"{sequence:02d}", "velodyne"
        )
        if not os.path.isdir(folder):
            raise UserError(f"data folder {folder} does not exist; {self.hint()}")
        files = sorted(file for file in os.listdir(folder) if file.endswith(".bin"))
        if not files:
            raise UserError(f"data folder {folder} holds no scan; {self.hint()}")
        return [os.path.join(folder, file) for file in files]

    def label_path(self, scan: str) -> str:
        """Return the label file of a scan."""
        folder, file = os.path.split(scan)
        name = os.path.splitext(file)[0] + ".label"
        return os.path.join(os.path.dirname(folder), "labels", name)

    def read_raw_labels(self, scan: str, num_points: int) -> np.ndarray | None:
        """Return the raw labels (N,) uint32 of a scan, or None if it has none."""
        path = self.label_path(scan)
        if not os.path.exists(path):
            return None
        return read_labels(path, np.uint32, num_points)

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scan."""
        scan = self.data_list[idx % len(self.data_list)]
        points = read_points(scan, 4)
        raw = self.read_raw_labels(scan, len(points))
        if raw is None:
            segment = np.zeros(len(points), np.int32)
        else:
            path = self.label_path(scan)
            segment = map_classes(raw & 0xFFFF, self.learning_map, path)
        return {
            "coord": points[:, :3].copy(),
            "strength": points[:, 3:4].copy(),
            "segment": segment,
            "name": self.get_data_name(idx),
        }

    def get_data_name(self, idx: int) -> str:
        """Return sequence and frame of a scan, e.g. ``08_000012``."""
        folder, file = os.path.split(self.data_list[idx % len(self.data_list)])
        sequence = os.path.basename(os.path.dirname(folder))
        return f"{sequence}_{os.path.splitext(file)[0]}"

    def get_split_name(self, idx: int) -> str:
        """Return the split of a scan."""
        sequence = int(self.get_data_name(idx).split("_")[0])
        return next(split for split, ids in SEQUENCES.items() if sequence in ids)

    @staticmethod
    def get_learning_map(ignore_index: int) -> dict[int, int]:
        """Return the class of every raw id."""
        number = {name: index for index, name in enumerate(CLASSES)}
        return {
            **dict.fromkeys(_UNLABELLED, ignore_index),
            **{raw: number[name] for name, raw in CLASSES.items()},
            **{raw: number[name] for raw, name in _MERGED.items()},
        }

    @staticmethod
    def get_learning_map_inv(ignore_index: int) -> dict[int, int]:
        """Return the raw id of every class."""
        return {ignore_index: ignore_index, **dict(enumerate(CLASSES.values()))}
