"""Datasets in Pointcept's folder layouts."""

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from pointins_plugin.errors import UserError

from .builders import build_dataset
from .logger import get_root_logger
from .registry import DATASETS, TRANSFORMS
from .transforms import Compose

# dtype of each entry of a scene, as the transforms and models expect it
_DTYPES = {
    "coord": np.float32,
    "color": np.float32,
    "normal": np.float32,
    "strength": np.float32,
}
_LABELS = ("segment", "instance")


@DATASETS.register_module()
class DefaultDataset(Dataset):
    """Scenes as folders of arrays: ``data_root/split/scene/{coord,color,...}.npy``.

    Args:
        split: a split, several, or json files of scene paths (under ``data_root``).
        data_root: folder of the splits.
        transform: transforms of a training sample.
        test_mode: return whole scenes with the fragments of ``test_cfg``.
        test_cfg: ``voxelize``, ``crop``, ``post_transform`` and ``aug_transform``.
        cache: keep the arrays of scenes in memory (in each worker).
        ignore_index: label of points that do not count.
        loop: times the split is repeated in an epoch.

    Raises:
        UserError: no folder, or no scene in it.
    """

    VALID_ASSETS = (
        "coord",
        "color",
        "normal",
        "strength",
        "segment",
        "instance",
        "pose",
    )

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
        self.test_cfg = test_cfg
        if test_mode:
            cfg = test_cfg or {}
            voxelize, crop = cfg.get("voxelize"), cfg.get("crop")
            self.test_voxelize = TRANSFORMS.build(voxelize) if voxelize else None
            self.test_crop = TRANSFORMS.build(crop) if crop else None
            self.post_transform = Compose(cfg.get("post_transform"))
            self.aug_transform = [Compose(t) for t in cfg.get("aug_transform", [[]])]
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
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        scenes: list[str] = []
        for split in splits:
            folder = Path(self.data_root) / split
            if folder.is_file():
                with open(folder, encoding="utf-8") as file:
                    found = [
                        str(Path(self.data_root) / name) for name in json.load(file)
                    ]
            elif folder.is_dir():
                found = sorted(str(path) for path in folder.iterdir() if path.is_dir())
            else:
                raise UserError(f"data folder {folder} does not exist; {self.hint()}")
            if not found:
                raise UserError(f"data folder {folder} holds no scene; {self.hint()}")
            scenes += found
        return scenes

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "put one folder of .npy arrays (coord, color, ...) a scene there, or point "
            "-o data.train.data_root=... to them"
        )

    def get_data_name(self, idx: int) -> str:
        """Return the name of a scene."""
        return os.path.basename(self.data_list[idx % len(self.data_list)])

    def get_split_name(self, idx: int) -> str:
        """Return the split of a scene."""
        return os.path.basename(
            os.path.dirname(self.data_list[idx % len(self.data_list)])
        )

    def load_scene(self, path: str) -> dict[str, Any]:
        """Read the arrays of a scene's folder."""
        scene = {}
        for name in self.VALID_ASSETS:
            file = os.path.join(path, f"{name}.npy")
            if os.path.isfile(file):
                try:
                    scene[name] = np.load(file, allow_pickle=False)
                except (OSError, ValueError) as error:
                    raise UserError(
                        f"scene {path}: {name}.npy cannot be read "
                        f"({str(error).splitlines()[0]})"
                    ) from None
        if "coord" not in scene:
            raise UserError(f"scene {path} has no coord.npy")
        return scene

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scene, to change freely."""
        path = self.data_list[idx % len(self.data_list)]
        scene = self._scenes.get(path)
        if scene is None:
            scene = self.convert(self.load_scene(path))
            if self.cache:
                self._scenes[path] = scene
        data_dict = {
            key: value.copy() if isinstance(value, np.ndarray) else value
            for key, value in scene.items()
        }
        data_dict["name"] = self.get_data_name(idx)
        data_dict["split"] = self.get_split_name(idx)
        return data_dict

    def convert(self, scene: dict[str, Any]) -> dict[str, Any]:
        """Give arrays their dtypes, and labels where there are none."""
        for key, dtype in _DTYPES.items():
            if key in scene:
                scene[key] = np.ascontiguousarray(scene[key], dtype=dtype)
        for key in _LABELS:
            if key in scene:
                scene[key] = scene[key].reshape(-1).astype(np.int32)
            else:
                scene[key] = np.full(len(scene["coord"]), self.ignore_index, np.int32)
        return scene

    def prepare_train_data(self, idx: int) -> dict[str, Any]:
        """Return a transformed training sample."""
        return self.transform(self.get_data(idx))

    def prepare_test_data(self, idx: int) -> dict[str, Any]:
        """Return a whole scene and its fragments, each augmentation's after another."""
        data_dict = self.transform(self.get_data(idx))
        result = {"segment": data_dict.pop("segment"), "name": data_dict.pop("name")}
        for key in ("origin_segment", "inverse"):
            if key in data_dict:
                result[key] = data_dict.pop(key)
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
class ScanNetDataset(DefaultDataset):
    """ScanNet v2 as Pointcept preprocesses it.

    ``segment20.npy`` and ``instance.npy`` a scene; ``segment200=True`` takes the 200
    classes (``segment200.npy``).
    """

    VALID_ASSETS = (
        "coord",
        "color",
        "normal",
        "segment20",
        "segment200",
        "instance",
        "superpoint",
    )
    segment_asset = "segment20"

    def hint(self) -> str:
        return (
            "get ScanNet v2 (scan-net.org), preprocess it with Pointcept's "
            "pointcept/datasets/preprocessing/scannet and link it there, or try "
            "-c pointins/rooms-pretrain, which needs no data"
        )

    def convert(self, scene: dict[str, Any]) -> dict[str, Any]:
        labels = {name: scene.pop(name, None) for name in ("segment20", "segment200")}
        if labels[self.segment_asset] is not None:
            scene["segment"] = labels[self.segment_asset]
        return super().convert(scene)


@DATASETS.register_module()
class ScanNet200Dataset(ScanNetDataset):
    """ScanNet with the labels of the 200 classes."""

    segment_asset = "segment200"


@DATASETS.register_module()
class ConcatDataset(Dataset):
    """Several datasets one after another."""

    def __init__(self, datasets: list[dict], loop: int = 1):
        super().__init__()
        self.datasets = [build_dataset(entry) for entry in datasets]
        self.loop = loop
        self.data_list = [
            (which, index)
            for which, dataset in enumerate(self.datasets)
            for index in range(len(dataset))
        ]

    def get_data_name(self, idx: int) -> str:
        """Return the name of a scene."""
        which, index = self.data_list[idx % len(self.data_list)]
        return self.datasets[which].get_data_name(index)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        which, index = self.data_list[idx % len(self.data_list)]
        return self.datasets[which][index]

    def __len__(self) -> int:
        return len(self.data_list) * self.loop
