"""SemanticKITTI with instances, in its published folders."""

import os
from collections.abc import Iterator

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import (
    DATASETS,
    SEMANTIC_KITTI_SEQUENCES,
    SemanticKITTIDataset,
)
from pointins_plugin.lidar_files import map_classes, read_labels, read_points

from .lidar_benchmarks import SEMANTIC_KITTI
from .panoptic_scans import PanopticScanDataset, number_instances

_SENSOR_HEIGHT = 1.73  # m above the ground (KITTI's set-up)
_SCAN_TIME = 0.1  # s, where there is no times.txt


@DATASETS.register_module()
class SemanticKITTIPanopticDataset(PanopticScanDataset):
    """``sequences/00/{velodyne/*.bin,labels/*.label}`` below ``data_root[/dataset]``.

    The lower half of a raw label is the class, one of the 19 of the benchmark (see
    ``lidar_benchmarks.SEMANTIC_KITTI``); the upper half is the instance, 0 for none,
    which is distinct within a raw class only: bus 1 and on-rails 1 are two.
    Poses for past sweeps are SemanticKITTI's ``sequences/00/poses.txt`` or KITTI's
    ``poses/00.txt``, with ``sequences/00/calib.txt`` and, if there is one,
    ``times.txt``.

    Args:
        split: "train" (sequences 00-07, 09, 10), "val" (08) or "test" (11-21, without
            labels), or several of them.
        sequences: sequences in place of those of the split; they are labelled unless
            the split is "test".
        Others as in ``PanopticScanDataset``.

    Raises:
        UserError: no such split, a missing folder or label file, a damaged scan, a
            class id that the data set does not define.
    """

    def __init__(
        self, sequences: list[int] | None = None, ignore_index: int = -1, **kwargs
    ):
        self.sequences = sequences
        self.learning_map = SemanticKITTIDataset.get_learning_map(ignore_index)
        self._things = [SEMANTIC_KITTI.names.index(n) for n in SEMANTIC_KITTI.things]
        self._motion: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        super().__init__(ignore_index=ignore_index, **kwargs)

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "get SemanticKITTI (semantic-kitti.org) and link the folder that holds "
            "dataset/sequences there, or try -c pointins/streets-pretrain, which needs "
            "no data"
        )

    def get_data_list(self) -> list[tuple[str, str]]:
        """Return split and file of every scan, in the order of sequences and frames."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        scans: list[tuple[str, str]] = []
        for split in splits:
            if split not in SEMANTIC_KITTI_SEQUENCES:
                raise UserError(
                    f"SemanticKITTI has no split {split!r}; use one of "
                    f"{list(SEMANTIC_KITTI_SEQUENCES)}"
                )
            for sequence in self.sequences or SEMANTIC_KITTI_SEQUENCES[split]:
                scans += [(split, file) for file in self._scans_of(sequence)]
        return scans

    def sequences_folder(self) -> str:
        """Return the folder of the sequences."""
        plain = os.path.join(self.data_root, "sequences")
        if os.path.isdir(plain):
            return plain
        return os.path.join(self.data_root, "dataset", "sequences")

    def _scans_of(self, sequence: int) -> list[str]:
        folder = os.path.join(self.sequences_folder(), f"{sequence:02d}", "velodyne")
        if not os.path.isdir(folder):
            raise UserError(f"data folder {folder} does not exist; {self.hint()}")
        files = sorted(file for file in os.listdir(folder) if file.endswith(".bin"))
        if not files:
            raise UserError(f"data folder {folder} holds no scan; {self.hint()}")
        return [os.path.join(folder, file) for file in files]

    def get_data_name(self, idx: int) -> str:
        """Return sequence and frame of a scan, e.g. ``08_000012``."""
        sequence, frame = _place(self.data_list[idx % len(self.data_list)][1])
        return f"{os.path.basename(sequence)}_{frame}"

    def get_split_name(self, idx: int) -> str:
        """Return the split of a scan."""
        return self.data_list[idx % len(self.data_list)][0]

    def read_scan(self, entry: tuple[str, str]) -> dict[str, np.ndarray]:
        """Return the arrays of a scan without past sweeps, in the sensor's frame."""
        split, file = entry
        points = read_points(file, 4)
        segment = np.full(len(points), self.ignore_index, np.int32)
        instance = np.full(len(points), -1, np.int32)
        panoptic = instance.copy()
        if self.labels and split != "test":
            sequence, frame = _place(file)
            path = os.path.join(sequence, "labels", f"{frame}.label")
            if not os.path.isfile(path):
                raise UserError(
                    f"scan {file} has no labels {path}; get SemanticKITTI's labels "
                    "(semantic-kitti.org) for it"
                )
            raw = read_labels(path, np.uint32, len(points))
            segment = map_classes(raw & 0xFFFF, self.learning_map, path)
            thing = np.isin(segment, self._things) & (raw >> 16 > 0)
            instance = number_instances(raw, thing)
            panoptic = number_instances(raw, np.ones(len(raw), bool))
        return {
            "coord": points[:, :3].copy(),
            "strength": points[:, 3:4].copy(),
            "segment": segment,
            "instance": instance,
            "panoptic": panoptic,
        }

    def past_scans(
        self, entry: tuple[str, str]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield past scans of the sequence: points (M, 4), their map, seconds."""
        sequence, frame = _place(entry[1])
        poses, times = self._motion_of(sequence)
        now = int(frame)
        for index in range(now - 1, max(now - 1 - self.past_sweeps, -1), -1):
            if now >= len(poses):
                raise UserError(
                    f"sequence {sequence} has {len(poses)} poses, but a scan {frame}; "
                    "get its poses.txt anew, or set past_sweeps=0"
                )
            name = f"{index:0{len(frame)}d}.bin"
            points = read_points(os.path.join(sequence, "velodyne", name), 4)
            motion = np.linalg.inv(poses[now]) @ poses[index]
            yield points, motion, times[now] - times[index]

    def _motion_of(self, sequence: str) -> tuple[np.ndarray, np.ndarray]:
        if sequence not in self._motion:
            self._motion[sequence] = read_motion(sequence)
        return self._motion[sequence]

    def vehicle_from_sensor(self, entry: tuple[str, str]) -> np.ndarray:
        """Return the (4, 4) lift from the sensor to the ground under it."""
        lift = np.eye(4)
        lift[2, 3] = _SENSOR_HEIGHT
        return lift


def _place(file: str) -> tuple[str, str]:
    """Return the folder of a scan's sequence and the number of its frame."""
    folder, name = os.path.split(file)
    return os.path.dirname(folder), os.path.splitext(name)[0]


def read_motion(sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """Read where the LiDAR was at each scan of a sequence.

    Args:
        sequence: its folder.

    Returns:
        (F, 4, 4) maps from the LiDAR's frame to that of the first scan, (F,) seconds.

    Raises:
        UserError: poses or calibration are missing or damaged.
    """
    number = os.path.basename(sequence)
    above = os.path.dirname(os.path.dirname(sequence))
    choices = (
        os.path.join(sequence, "poses.txt"),
        os.path.join(above, "poses", f"{number}.txt"),
    )
    path = next((path for path in choices if os.path.isfile(path)), None)
    if path is None:
        raise UserError(
            f"sequence {sequence} has no poses.txt, which past sweeps need; get it "
            "with SemanticKITTI's labels, or set past_sweeps=0"
        )
    camera = _matrices(_numbers(path), path)
    calib = os.path.join(sequence, "calib.txt")
    rows = [row for row in _lines(calib) if row.startswith("Tr:")]
    if not rows:
        raise UserError(
            f"calibration {calib} has no line Tr:, which past sweeps need; get KITTI "
            "odometry's calibration, or set past_sweeps=0"
        )
    camera_from_lidar = _matrices([_floats(rows[0][3:], calib)], calib)[0]
    lidar = np.linalg.inv(camera_from_lidar) @ camera @ camera_from_lidar
    times_path = os.path.join(sequence, "times.txt")
    times = np.arange(len(lidar)) * _SCAN_TIME
    if os.path.isfile(times_path):
        found = np.array([row[0] for row in _numbers(times_path)])
        if len(found) < len(times):
            raise UserError(
                f"{times_path} has {len(found)} times for {len(times)} poses; get it "
                "anew"
            )
        times = found
    return lidar, times


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return [line for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); past sweeps need it, or set "
            "past_sweeps=0"
        ) from None


def _floats(text: str, path: str) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); get it anew") from None


def _numbers(path: str) -> list[list[float]]:
    return [_floats(line, path) for line in _lines(path)]


def _matrices(rows: list[list[float]], path: str) -> np.ndarray:
    if not rows or any(len(row) != 12 for row in rows):
        raise UserError(
            f"{path} is damaged: its rows must hold 12 numbers; get it anew"
        )
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3] = np.array(rows).reshape(-1, 3, 4)
    return matrices
