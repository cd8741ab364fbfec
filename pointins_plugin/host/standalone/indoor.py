"""The other indoor data sets of Sonata's pre-training, as in Pointcept."""

import os

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.scenes import scene_folders

from .datasets import DefaultDataset
from .registry import DATASETS


@DATASETS.register_module()
class ScanNetPPDataset(DefaultDataset):
    """ScanNet++: ``data_root/train_grid1mm_chunk6x6_stride3x3/CHUNK/{coord,...}.npy``.

    Args:
        multilabel: must be False. Points have up to three labels, likeliest first,
            of which the first is used.
        **kwargs: as in ``DefaultDataset``.
    """

    VALID_ASSETS = ["coord", "color", "normal", "superpoint", "segment", "instance"]

    def __init__(self, multilabel: bool = False, **kwargs):
        if multilabel:
            raise ValueError("several labels a point are not supported")
        super().__init__(**kwargs)

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Read the arrays of a chunk, of labels the first column."""
        scene = super().read(path)
        for key in ("segment", "instance"):
            if key in scene and scene[key].ndim == 2:
                scene[key] = scene[key][:, 0]
        return scene


@DATASETS.register_module()
class HM3DDataset(DefaultDataset):
    """Habitat-Matterport 3D: ``data_root/train/SCENE/{coord,...}.npy``.

    Args:
        force_label: take only scenes with labels.
        **kwargs: as in ``DefaultDataset``.
    """

    def __init__(self, force_label: bool = True, **kwargs):
        self.force_label = force_label
        super().__init__(**kwargs)

    def get_data_list(self) -> list[str]:
        """Return the folders of the scenes, sorted within each split."""
        scenes = super().get_data_list()
        if self.force_label:
            scenes = [
                scene
                for scene in scenes
                if os.path.isfile(os.path.join(scene, "segment.npy"))
            ]
        if not scenes:
            raise UserError(
                f"HM3DDataset: no scene of {self.describe()} has labels; set "
                "force_label=False to take those without"
            )
        return scenes


@DATASETS.register_module()
class Structured3DDataset(DefaultDataset):
    """Structured3D: ``data_root/train/scene_00000/room_485142/{coord,...}.npy``."""

    def get_data_list(self) -> list[str]:
        """Return the folders of the rooms, sorted within each split."""
        splits = [self.split] if isinstance(self.split, str) else self.split
        scenes = [os.path.join(split, "scene_*") for split in splits]
        folders = scene_folders(self.data_root, scenes, self.hint())
        return [f for f in folders if os.path.basename(f).startswith("room_")]

    def get_data_name(self, idx: int) -> str:
        """Return the name of a room with its scene, ``scene_00000_room_485142``."""
        return f"{self.get_split_name(idx)}_{self.folder_name(idx)}"
