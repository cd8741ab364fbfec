"""ScanNet and ScanNet200 as Pointcept preprocesses them."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.scannet_labels import VALID_CLASS_IDS_20, VALID_CLASS_IDS_200
from pointins_plugin.scenes import load_arrays

from .datasets import DefaultDataset
from .registry import DATASETS


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
    class2id = np.array(VALID_CLASS_IDS_20)

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
    class2id = np.array(VALID_CLASS_IDS_200)


def _read_names(file: str) -> list[str]:
    try:
        names = Path(file).read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise UserError(f"lr_file {file} cannot be read ({error})") from None
    if not names:
        raise UserError(f"lr_file {file} names no scene")
    return names
