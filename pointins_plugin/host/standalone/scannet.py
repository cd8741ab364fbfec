"""ScanNet and ScanNet200 as Pointcept preprocesses them."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.scenes import load_arrays

from .datasets import DefaultDataset
from .registry import DATASETS

# ids of the classes in submissions to either benchmark
CLASS_IDS_20 = "1 2 3 4 5 6 7 8 9 10 11 12 14 16 24 28 33 34 36 39"
CLASS_IDS_200 = """
    1 2 3 4 5 6 7 8 9 10 11 13 14 15 16 17 18 19 21 22 23 24 26 27 28 29 31 32 33 34
    35 36 38 39 40 41 42 44 45 46 47 48 49 50 51 52 54 55 56 57 58 59 62 63 64 65 66
    67 68 69 70 71 72 73 74 75 76 77 78 79 80 82 84 86 87 88 89 90 93 95 96 97 98 99
    100 101 102 103 104 105 106 107 110 112 115 116 118 120 121 122 125 128 130 131
    132 134 136 138 139 140 141 145 148 154 155 156 157 159 161 163 165 166 168 169
    170 177 180 185 188 191 193 195 202 208 213 214 221 229 230 232 233 242 250 261
    264 276 283 286 300 304 312 323 325 331 342 356 370 392 395 399 408 417 488 540
    562 570 572 581 609 748 776 1156 1163 1164 1165 1166 1167 1168 1169 1170 1171
    1172 1173 1174 1175 1176 1178 1179 1180 1181 1182 1183 1184 1185 1186 1187 1188
    1189 1190 1191
"""


@DATASETS.register_module()
class ScanNetDataset(DefaultDataset):
    """ScanNet v2: ``data_root/train/scene0000_00/{coord,segment20,...}.npy``.

    Args:
        lr_file: text file of the training scenes of a limited-scenes split; they
            take the place of ``split``.
        la_file: limited annotations, saved by torch: for each scene the points whose
            labels may be used. The others get ``ignore_index``, and ``sampled_index``
            keeps the labelled points through sampling.
        **kwargs: as in ``DefaultDataset``.

    Raises:
        UserError: such a file is missing or damaged, lacks a scene, or names points
            the scene does not have.
    """

    segment_asset = "segment20"
    VALID_ASSETS = ["coord", "color", "normal", segment_asset, "instance"]
    class2id = np.array(CLASS_IDS_20.split(), dtype=int)

    def __init__(
        self, lr_file: str | None = None, la_file: str | None = None, **kwargs
    ):
        self.lr = _read_names(lr_file) if lr_file else None
        self.la = load_arrays(la_file, "la_file") if la_file else None
        super().__init__(**kwargs)

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "get ScanNet v2 (scan-net.org), preprocess it with Pointcept's "
            "pointcept/datasets/preprocessing/scannet and link it there, or try "
            "-c pointins/demo-pretrain, which needs no data"
        )

    def get_data_list(self) -> list[str]:
        """Return the folders of the scenes, those of ``lr_file`` if there is one."""
        if self.lr is None:
            return super().get_data_list()
        scenes = [os.path.join(self.data_root, "train", name) for name in self.lr]
        for scene in scenes:
            if not os.path.isdir(scene):
                raise UserError(f"data folder {scene} does not exist; {self.hint()}")
        return scenes

    def convert(self, scene: dict[str, Any]) -> dict[str, Any]:
        """Take the labels of the right number of classes, then as the default."""
        if self.segment_asset in scene:
            scene["segment"] = scene.pop(self.segment_asset)
        return super().convert(scene)

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scene, to change freely."""
        data_dict = super().get_data(idx)
        if self.la is not None:
            labelled = self._labelled(data_dict["name"], len(data_dict["coord"]))
            unlabelled = np.ones(len(data_dict["coord"]), dtype=bool)
            unlabelled[labelled] = False
            data_dict["segment"][unlabelled] = self.ignore_index
            data_dict["sampled_index"] = labelled
        return data_dict

    def _labelled(self, name: str, num_points: int) -> np.ndarray:
        if name not in self.la:
            raise UserError(f"scene {name} is not in the la_file")
        points = np.asarray(self.la[name], dtype=np.int64).ravel()
        if len(points) and not 0 <= points.min() <= points.max() < num_points:
            raise UserError(
                f"la_file names points {points.min()} to {points.max()} of scene "
                f"{name}, which has {num_points}; it was made for another preprocessing"
            )
        return points


@DATASETS.register_module()
class ScanNet200Dataset(ScanNetDataset):
    """ScanNet with the labels of the 200 classes, ``segment200.npy``."""

    segment_asset = "segment200"
    VALID_ASSETS = ["coord", "color", "normal", segment_asset, "instance"]
    class2id = np.array(CLASS_IDS_200.split(), dtype=int)


def _read_names(file: str) -> list[str]:
    try:
        names = Path(file).read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise UserError(f"lr_file {file} cannot be read ({error})") from None
    if not names:
        raise UserError(f"lr_file {file} names no scene")
    return names
