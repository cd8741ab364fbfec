"""nuScenes with panoptic labels, from info files or from its own tables."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, NuScenesDataset
from pointins_plugin.lidar_files import (
    check_length,
    map_classes,
    read_labels,
    read_points,
)
from pointins_plugin.safe_pickle import load_plain

from .lidar_benchmarks import NUSCENES
from .nuscenes_tables import VERSIONS, read_scans
from .panoptic_scans import PanopticScanDataset, number_instances

SOURCES = ("auto", "info", "tables")
LABELS = ("panoptic", "lidarseg")
_DAMAGED = (zipfile.BadZipFile, zlib.error)


@DATASETS.register_module()
class NuScenesPanopticDataset(PanopticScanDataset):
    """Key frames of nuScenes, from Pointcept's info files or the devkit's layout.

    Panoptic labels are ``panoptic/v1.0-*/TOKEN_panoptic.npz`` with ``data`` (N,) =
    1000 * category + instance, 0 for none; lidarseg's are
    ``lidarseg/v1.0-*/TOKEN_lidarseg.bin``, a category (uint8) a point. The classes are
    the 16 of the benchmarks (see ``lidar_benchmarks.NUSCENES``). Two layouts are read
    as they are:

    - info files: ``data_root/info/nuscenes_infos_10sweeps_train.pkl``, the data below
      ``data_root/raw``; nothing in them is run;
    - tables: ``data_root/v1.0-trainval/*.json`` beside ``samples``, or the same below
      ``data_root/raw``; nuscenes-devkit is not needed.

    Args:
        sweeps: the number in the name of the info files.
        source: ``"info"``, ``"tables"``, or ``"auto"``: info files where there are any.
        split: "train", "val" or "test" (without labels), from tables also
            "mini_train" and "mini_val"; or several of them.
        labels: ``"panoptic"`` (or True), ``"lidarseg"``, whose scans have classes but
            no instance, or False.
        Others as in ``PanopticScanDataset``.

    Raises:
        UserError: no such split, a missing or strange info file, table or label file,
            a damaged scan, a category that the data set does not define.
    """

    def __init__(
        self,
        sweeps: int = 10,
        source: str = "auto",
        labels: str | bool = "panoptic",
        ignore_index: int = -1,
        **kwargs: Any,
    ):
        if source not in SOURCES:
            raise UserError(
                f"config: {type(self).__name__} source={source!r}; use one of "
                f"{', '.join(SOURCES)}"
            )
        if not isinstance(labels, bool) and labels not in LABELS:
            raise UserError(
                f"config: {type(self).__name__} labels={labels!r}; use one of "
                f"{', '.join(LABELS)}, or False"
            )
        self.label_kind = "panoptic" if labels is True else labels or None
        self.sweeps = sweeps
        self.source = source
        self.learning_map = NuScenesDataset.get_learning_map(ignore_index)
        self._things = [NUSCENES.names.index(name) for name in NUSCENES.things]
        super().__init__(labels=bool(labels), ignore_index=ignore_index, **kwargs)

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "get nuScenes (nuscenes.org) with its panoptic labels, or lidarseg for "
            "classes alone, and link it there, or try -c pointins/streets-pretrain, "
            "which needs no data"
        )

    def get_data_list(self) -> list[dict[str, Any]]:
        """Return the key frames, as ``nuscenes_tables.read_scans`` describes them."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        entries: list[dict[str, Any]] = []
        for split in splits:
            if split not in VERSIONS:
                raise UserError(
                    f"nuScenes has no split {split!r}; use one of {list(VERSIONS)}"
                )
            path = self._info_path(split)
            if self.source == "info" or (
                self.source == "auto" and os.path.isfile(path)
            ):
                if self.past_sweeps >= self.sweeps:
                    raise UserError(
                        f"config: info files of {self.sweeps} sweeps name "
                        f"{self.sweeps - 1} past ones, not past_sweeps="
                        f'{self.past_sweeps}; use source="tables"'
                    )
                root = os.path.join(self.data_root, "raw")
                found = self._read_info(path, split)
            else:
                root = self._tables_root(split)
                found = read_scans(root, split, self.past_sweeps, self.label_kind)
            entries += [{**entry, "split": split, "root": root} for entry in found]
        return entries

    def _info_path(self, split: str) -> str:
        name = f"nuscenes_infos_{self.sweeps}sweeps_{split}.pkl"
        return os.path.join(self.data_root, "info", name)

    def _tables_root(self, split: str) -> str:
        for root in (self.data_root, os.path.join(self.data_root, "raw")):
            if os.path.isdir(os.path.join(root, VERSIONS[split])):
                return root
        raise UserError(
            f"data folder {self.data_root} has neither {VERSIONS[split]} nor "
            f"{os.path.relpath(self._info_path(split), self.data_root)}; {self.hint()}"
        )

    def _read_info(self, path: str, split: str) -> list[dict[str, Any]]:
        try:
            found = load_plain(path, "info file")
        except UserError as error:
            raise UserError(f'{error}; make it anew, or use source="tables"') from None
        if not isinstance(found, list) or not found:
            raise UserError(f"info file {path} is no list of scans; make it anew")
        entries = []
        for number, info in enumerate(found):
            try:
                entry = _entry(info, self.past_sweeps)
                if self.label_kind and split != "test":
                    entry["label_path"] = _label_path(info, split, self.label_kind)
                entries.append(entry)
            except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
                raise UserError(
                    f"info file {path}: scan {number} has no usable entry ("
                    f"{type(error).__name__}: {error}); make it anew"
                ) from None
        return entries

    def get_data_name(self, idx: int) -> str:
        """Return the token of a scan."""
        return self.data_list[idx % len(self.data_list)]["lidar_token"]

    def get_split_name(self, idx: int) -> str:
        """Return the split of a scan."""
        return self.data_list[idx % len(self.data_list)]["split"]

    def read_scan(self, entry: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of a scan without past sweeps, in the sensor's frame."""
        points = read_points(os.path.join(entry["root"], entry["lidar_path"]), 5)
        segment = np.full(len(points), self.ignore_index, np.int32)
        instance = np.full(len(points), -1, np.int32)
        panoptic = instance.copy()
        path = os.path.join(entry["root"], entry["label_path"] or "")
        if entry["label_path"] and self.label_kind == "lidarseg":
            raw = read_lidarseg(path, len(points))
            segment = map_classes(raw, self.learning_map, path)
        elif entry["label_path"]:
            raw = read_panoptic(path)
            check_length(path, len(raw), len(points))
            segment = map_classes(raw // 1000, self.learning_map, path)
            thing = np.isin(segment, self._things) & (raw % 1000 > 0)
            instance = number_instances(raw, thing)
            panoptic = number_instances(raw, np.ones(len(raw), bool))
        return {
            "coord": points[:, :3].copy(),
            "strength": points[:, 3:4] / np.float32(255),
            "segment": segment,
            "instance": instance,
            "panoptic": panoptic,
        }

    def past_scans(
        self, entry: dict[str, Any]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield past sweeps: points (M, 4), their map, seconds."""
        for lidar_path, motion, lag in entry["sweeps"]:
            points = read_points(os.path.join(entry["root"], lidar_path), 5)[:, :4]
            points[:, 3] /= 255
            yield points, motion, lag

    def vehicle_from_sensor(self, entry: dict[str, Any]) -> np.ndarray:
        """Return the (4, 4) map from the sensor's frame to the car's, on the ground."""
        if entry["car_from_sensor"] is None:
            raise UserError(
                f"the info file has no ref_from_car for scan {entry['lidar_token']}, "
                'which frame="vehicle" needs; make it anew, or use source="tables"'
            )
        return entry["car_from_sensor"]


def _entry(info: dict[str, Any], past_sweeps: int) -> dict[str, Any]:
    """Return a scan of an info file in the terms of ``nuscenes_tables``."""
    known = {info["lidar_token"]}
    sweeps: list[tuple[str, np.ndarray, float]] = []
    for sweep in info.get("sweeps", ()):
        # short sequences repeat their first sweep, or the scan itself
        if len(sweeps) == past_sweeps or sweep["sample_data_token"] in known:
            continue
        known.add(sweep["sample_data_token"])
        motion = _matrix(sweep["transform_matrix"])
        sweeps.append((_text(sweep["lidar_path"]), motion, float(sweep["time_lag"])))
    reference = info.get("ref_from_car")
    return {
        "lidar_path": _text(info["lidar_path"]),
        "lidar_token": _text(info["lidar_token"]),
        "label_path": None,
        "car_from_sensor": None
        if reference is None
        else np.linalg.inv(_matrix(reference)),
        "sweeps": sweeps,
    }


def _label_path(info: dict[str, Any], split: str, kind: str) -> str:
    """Return the label file of a scan of an info file, which names lidarseg's only."""
    if kind == "lidarseg" and "gt_segment_path" in info:
        return _text(info["gt_segment_path"])
    end = "panoptic.npz" if kind == "panoptic" else "lidarseg.bin"
    return f"{kind}/{VERSIONS[split]}/{info['lidar_token']}_{end}"


def _matrix(value: Any) -> np.ndarray:
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"a matrix of shape {matrix.shape}")
    return matrix


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a name should be")
    if os.path.isabs(value) or ".." in value.split("/"):
        raise ValueError(f"{value!r} leads out of the data folder")
    return value


def read_lidarseg(path: str, num_points: int) -> np.ndarray:
    """Read the categories (N,) uint8 of a scan.

    Raises:
        UserError: the file is missing or damaged, or its scan has another length.
    """
    if not os.path.isfile(path):
        raise UserError(
            f"labels {path} are missing; get nuScenes-lidarseg (nuscenes.org) and "
            "unpack it there"
        )
    return read_labels(path, np.uint8, num_points)


def read_panoptic(path: str) -> np.ndarray:
    """Read the panoptic labels (N,) int64 of a scan.

    Raises:
        UserError: the file is missing, damaged or holds no row of integers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = file["data"]
    except FileNotFoundError:
        raise UserError(
            f"labels {path} are missing; get the nuScenes-panoptic labels "
            "(nuscenes.org) and unpack them there"
        ) from None
    except (*_DAMAGED, OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"labels {path} cannot be read ({reason}); get them anew"
        ) from None
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (labels < 0).any():
        raise UserError(
            f"labels {path} hold {labels.dtype} of shape {labels.shape}, no row of "
            "integers from 0; get them anew"
        )
    return labels.astype(np.int64)
