"""Datasets of scenes as folders of arrays, and several datasets as one."""

import os
from collections import Counter
from copy import deepcopy
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from pointins_plugin.errors import UserError
from pointins_plugin.scenes import (
    copy_scene,
    read_scene,
    scene_folders,
    scene_problem,
    typed_scene,
)

from .builders import build_dataset
from .logger import get_root_logger
from .registry import DATASETS, TRANSFORMS
from .transforms import Compose


@DATASETS.register_module()
class DefaultDataset(Dataset):
    """Scenes as folders of arrays: ``data_root/split/scene/{coord,color,...}.npy``.

    Args:
        split: a split or several, as names of folders (wildcards allowed) or of json
            files of scene paths, below ``data_root``.
        data_root: folder of the splits.
        transform: transforms of a training sample.
        test_mode: return whole scenes with the fragments of ``test_cfg``.
        test_cfg: ``voxelize`` and ``crop``, transforms that cut a scene into
            fragments, or None; ``post_transform``, transforms of a fragment; and
            ``aug_transform``, for each augmentation its transforms.
        cache: keep the arrays of scenes in memory (in each worker).
        ignore_index: label of points that do not count.
        loop: times the split is repeated in an epoch.

    Raises:
        UserError: no folder, no scene in it, or a scene (when read) that is unusable.
    """

    VALID_ASSETS = [
        "coord",
        "color",
        "normal",
        "strength",
        "segment",
        "instance",
        "pose",
    ]

    def __init__(
        self,
        split: str | list[str] = "train",
        data_root: str = "data/dataset",
        transform: list[dict] | None = None,
        test_mode: bool = False,
        test_cfg: dict | None = None,
        cache: bool = False,
        ignore_index: int = -1,
        loop: int = 1,
    ):
        super().__init__()
        self.data_root = data_root
        self.split = split
        self.transform = Compose(transform)
        self.cache = cache
        self.ignore_index = ignore_index
        self.loop = 1 if test_mode else loop
        self.test_mode = test_mode
        self.test_cfg = test_cfg if test_mode else None
        if test_mode:
            cfg = test_cfg or {}
            voxelize, crop = cfg.get("voxelize"), cfg.get("crop")
            self.test_voxelize = TRANSFORMS.build(voxelize) if voxelize else None
            self.test_crop = TRANSFORMS.build(crop) if crop else None
            self.post_transform = Compose(cfg.get("post_transform"))
            augmentations = cfg.get("aug_transform") or [[]]
            self.aug_transform = [Compose(entry) for entry in augmentations]
        self._scenes: dict[str, dict] = {}
        self.data_list = self.get_data_list()
        get_root_logger().info(
            f"{type(self).__name__}: {len(self.data_list)} scenes x {self.loop} in "
            f"{self.describe()}"
        )

    def describe(self) -> str:
        """Return where the scenes come from, for logs and errors."""
        return f"{self.data_root} ({self.split})"

    def get_data_list(self) -> list[str]:
        """Return the paths of the scenes, sorted within each split.

        Raises:
            UserError: a split or its folder is missing or empty.
        """
        return scene_folders(self.data_root, self.split, self.hint())

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "put one folder of .npy arrays (coord, color, ...) a scene there, or point "
            "-o data.train.data_root=... to them"
        )

    def get_data_name(self, idx: int) -> str:
        """Return the name of a scene: its folder's, or its path's if others share that.

        ``scene0`` of the splits val and test are ``val_scene0`` and ``test_scene0``.
        """
        name = self.folder_name(idx)
        if name not in self._shared_names:
            return name
        path = self.data_list[idx % len(self.data_list)]
        return os.path.relpath(path, self.data_root).replace(os.sep, "_")

    @cached_property
    def _shared_names(self) -> set[str]:
        # results are kept by name: of two scenes with one name the first would be lost
        counts = Counter(map(os.path.basename, set(self.data_list)))
        return {name for name, count in counts.items() if count > 1}

    def folder_name(self, idx: int) -> str:
        """Return the name of a scene's folder."""
        return os.path.basename(self.data_list[idx % len(self.data_list)])

    def get_split_name(self, idx: int) -> str:
        """Return the split of a scene."""
        return os.path.basename(
            os.path.dirname(self.data_list[idx % len(self.data_list)])
        )

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Read the arrays of a scene's folder."""
        return read_scene(path, self.VALID_ASSETS)

    def load_scene(self, path: str) -> dict[str, Any]:
        """Read and check the arrays of a scene's folder.

        Raises:
            UserError: an array cannot be read, or the scene cannot be used.
        """
        scene = self.read(path)
        problem = scene_problem(scene)
        if problem:
            raise UserError(
                f"scene {path} {problem}; mend it or take it out of its split"
            )
        return scene

    def convert(self, scene: dict[str, Any]) -> dict[str, Any]:
        """Give arrays their dtypes, and labels where there are none."""
        return typed_scene(scene, self.ignore_index)

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scene, to change freely."""
        path = self.data_list[idx % len(self.data_list)]
        scene = self._scenes.get(path)
        if scene is None:
            scene = self.convert(self.load_scene(path))
            if self.cache:
                self._scenes[path] = scene
        data_dict = copy_scene(scene)
        data_dict["name"] = self.get_data_name(idx)
        data_dict["split"] = self.get_split_name(idx)
        return data_dict

    def prepare_train_data(self, idx: int) -> dict[str, Any]:
        """Return a transformed training sample."""
        return self.transform(self.get_data(idx))

    def prepare_test_data(self, idx: int) -> dict[str, Any]:
        """Return a whole scene and its fragments, each augmentation's after another.

        Returns:
            ``segment``, ``name``, ``fragment_list`` and, where the transforms keep the
            labels before sampling, ``origin_segment`` and ``inverse``.

        Raises:
            UserError: ``origin_segment`` without ``inverse``; or as ``get_data``.
        """
        data_dict = self.transform(self.get_data(idx))
        result = {"segment": data_dict.pop("segment"), "name": data_dict.pop("name")}
        if "origin_segment" in data_dict:
            if "inverse" not in data_dict:
                raise UserError(
                    "config: origin_segment is kept, but not which sample stands for "
                    "each point: set return_inverse=True in GridSample"
                )
            result["origin_segment"] = data_dict.pop("origin_segment")
            result["inverse"] = data_dict.pop("inverse")
        fragments = []
        for augment in self.aug_transform:
            scene = augment(deepcopy(data_dict))
            if self.test_voxelize is not None:
                parts = self.test_voxelize(scene)
            else:
                scene["index"] = np.arange(len(scene["coord"]))
                parts = [scene]
            for part in parts:
                fragments += self.test_crop(part) if self.test_crop else [part]
        result["fragment_list"] = [self.post_transform(part) for part in fragments]
        return result

    def __getitem__(self, idx: int) -> dict[str, Any]:
        if self.test_mode:
            return self.prepare_test_data(idx)
        return self.prepare_train_data(idx)

    def __len__(self) -> int:
        return len(self.data_list) * self.loop


@DATASETS.register_module()
class ConcatDataset(Dataset):
    """Several datasets one after another.

    A name that scenes of several of them share is preceded by the dataset's place in
    the list: results are kept by name.

    Args:
        datasets: their configs.
        loop: times the whole is repeated in an epoch.
    """

    def __init__(self, datasets: list[dict], loop: int = 1):
        super().__init__()
        self.datasets = [build_dataset(entry) for entry in datasets]
        self.loop = loop
        self.data_list = self.get_data_list()
        get_root_logger().info(
            f"ConcatDataset: {len(self.data_list)} scenes x {loop} in "
            f"{len(self.datasets)} datasets"
        )

    def get_data_list(self) -> list[tuple[int, int]]:
        """Return which dataset, and which of its samples, for every sample."""
        return [
            (which, index)
            for which, dataset in enumerate(self.datasets)
            for index in range(len(dataset))
        ]

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return a sample of the dataset it comes from."""
        which, index = self.data_list[idx % len(self.data_list)]
        sample = self.datasets[which][index]
        if isinstance(sample, dict) and "name" in sample:
            sample["name"] = self.get_data_name(idx)
        return sample

    def get_data_name(self, idx: int) -> str:
        """Return the name of a scene."""
        which, index = self.data_list[idx % len(self.data_list)]
        name = self.datasets[which].get_data_name(index)
        return f"{which}_{name}" if name in self._shared_names else name

    @cached_property
    def _shared_names(self) -> set[str]:
        members = [
            {dataset.get_data_name(index) for index in range(len(dataset))}
            for dataset in self.datasets
        ]
        counts = Counter(name for names in members for name in names)
        return {name for name, count in counts.items() if count > 1}

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return self.get_data(idx)

    def __len__(self) -> int:
        return len(self.data_list) * self.loop
