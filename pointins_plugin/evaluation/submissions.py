"""Predictions in the files that the outdoor benchmarks' servers take.

A submission is a folder; scans are added one by one, each is read back and compared
as soon as it is written, and the folder gets its name when all are in it.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import write_whole


class Submission:
    """A folder of predictions, written whole or not at all.

    Args:
        folder: its name; nothing may be there yet.
        submitted: (C,) id that stands for each class.

    Use as a context: the folder appears when the block ends without an error.
    """

    def __init__(self, folder: str | Path, submitted: Sequence[int]):
        self.folder = Path(folder)
        self.submitted = np.asarray(submitted, np.int64)
        self.count = 0
        if self.folder.exists():
            raise UserError(f"{folder} exists already; name a new folder")
        self._temporary = self.folder.parent / f".{self.folder.name}.tmp{os.getpid()}"

    def __enter__(self) -> Submission:
        try:
            self._temporary.mkdir(parents=True)
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                self.finish(self._temporary)
                os.replace(self._temporary, self.folder)
        except OSError as failure:
            raise self._unwritable(failure) from None
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"submission {self.folder} could not be written ("
            f"{error.strerror or error}); nothing is left there"
        )

    def add(self, name: str, segment: np.ndarray, instance: np.ndarray) -> None:
        """Write a scan.

        Args:
            name: of the scan, as its dataset names it.
            segment: (N,) classes of all its points, negative for none.
            instance: (N,) instances, negative for none.

        Raises:
            UserError: an unknown class, a strange name, a file that reads back
                differently, a full disk.
        """
        segment, instance = np.asarray(segment), np.asarray(instance)
        if len(segment) != len(instance):
            raise UserError(
                f"scan {name}: {len(segment)} classes and {len(instance)} instances"
            )
        if len(segment) and segment.max() >= len(self.submitted):
            raise UserError(
                f"scan {name}: class {segment.max()} is none of the "
                f"{len(self.submitted)} of the benchmark; use the benchmark's config"
            )
        ids = np.where(segment >= 0, self.submitted[np.maximum(segment, 0)], 0)
        path = self._temporary / self.place(name)
        label = self.encode(ids, instance)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path, label)
            back = self.read(path)
        except OSError as error:
            raise self._unwritable(error) from None
        if back.dtype != label.dtype or not np.array_equal(back, label):
            raise UserError(f"scan {name} reads back differently from {path}")
        self.count += 1

    def place(self, name: str) -> str:
        """Return the file of a scan, relative to the folder."""
        raise NotImplementedError

    def encode(self, ids: np.ndarray, instance: np.ndarray) -> np.ndarray:
        """Return the labels of a scan from class ids and instances (N,)."""
        raise NotImplementedError

    @staticmethod
    def write(path: Path, label: np.ndarray) -> None:
        """Write labels to a file."""
        label.tofile(path)

    @staticmethod
    def read(path: Path) -> np.ndarray:
        """Read labels from a file."""
        raise NotImplementedError

    def finish(self, folder: Path) -> None:
        """Write what belongs to the submission as a whole."""


class SemanticKITTISubmission(Submission):
    """``sequences/11/predictions/000000.label``: id and, 16 bits higher, the instance.

    Instances count from 1; with no instance anywhere it is one of the semantic
    benchmark.

    Source: semantic-kitti-api, README and evaluate_panoptic.py.
    """

    def place(self, name: str) -> str:
        sequence, _, frame = name.partition("_")
        if not (sequence.isdigit() and frame.isdigit()):
            raise UserError(
                f"scan {name!r} is not named SEQUENCE_FRAME; use "
                "SemanticKITTIPanopticDataset"
            )
        return f"sequences/{sequence}/predictions/{frame}.label"

    def encode(self, ids: np.ndarray, instance: np.ndarray) -> np.ndarray:
        number = _numbered(instance)
        if number.max(initial=0) > 0xFFFF:
            raise UserError(f"{number.max()} instances in a scan; 65535 fit a label")
        return (number << 16 | ids).astype("<u4")

    @staticmethod
    def read(path: Path) -> np.ndarray:
        return np.fromfile(path, "<u4")


class _NuScenesSubmission(Submission):
    """A nuScenes submission of one evaluation set.

    Args:
        split: "test", "val" ...
        external: other data than nuScenes were used.
        Others as in ``Submission``.
    """

    task: dict[str, str] = {}

    def __init__(
        self,
        folder: str | Path,
        submitted: Sequence[int],
        split: str = "test",
        external: bool = False,
    ):
        super().__init__(folder, submitted)
        self.split = split
        self.external = external

    def finish(self, folder: Path) -> None:
        meta = {
            **self.task,
            "use_camera": False,
            "use_lidar": True,
            "use_radar": False,
            "use_map": False,
            "use_external": self.external,
        }
        (folder / self.split).mkdir(exist_ok=True)
        text = json.dumps({"meta": meta}, indent=1)
        (folder / self.split / "submission.json").write_text(text, encoding="utf-8")


class NuScenesSubmission(_NuScenesSubmission):
    """``panoptic/test/TOKEN_panoptic.npz``: 1000 * class + instance, uint16.

    Instances count from 1 in every class; of more than 999 in one, the smallest have
    none. Stuff has 0. ``test/submission.json`` says what the input was.

    Source: nuscenes-devkit, eval/panoptic/README.md.
    """

    task = {"task": "segmentation"}

    def place(self, name: str) -> str:
        return f"panoptic/{self.split}/{name}_panoptic.npz"

    def encode(self, ids: np.ndarray, instance: np.ndarray) -> np.ndarray:
        label = 1000 * ids
        for kind in np.unique(ids[instance >= 0]):
            rows = np.flatnonzero((ids == kind) & (instance >= 0))
            _, number, size = np.unique(
                instance[rows], return_inverse=True, return_counts=True
            )
            if len(size) > 999:
                rank = np.empty(len(size), np.int64)
                rank[np.argsort(-size, kind="stable")] = np.arange(len(size))
                number = rank[number]
            label[rows] += np.where(number < 999, number + 1, 0)
        return label.astype(np.uint16)

    @staticmethod
    def write(path: Path, label: np.ndarray) -> None:
        np.savez_compressed(path, data=label)

    @staticmethod
    def read(path: Path) -> np.ndarray:
        with np.load(path, allow_pickle=False) as file:
            return file["data"]


class NuScenesLidarSegSubmission(_NuScenesSubmission):
    """``lidarseg/test/TOKEN_lidarseg.bin``: the class from 1, uint8.

    Source: nuscenes-devkit, eval/lidarseg/README.md.
    """

    def place(self, name: str) -> str:
        return f"lidarseg/{self.split}/{name}_lidarseg.bin"

    def encode(self, ids: np.ndarray, instance: np.ndarray) -> np.ndarray:
        return ids.astype(np.uint8)

    @staticmethod
    def read(path: Path) -> np.ndarray:
        return np.fromfile(path, np.uint8)


def zip_folder(folder: str | Path) -> Path:
    """Pack a submission as the servers take it; return ``folder.zip``.

    Raises:
        UserError: it cannot be written.
    """
    folder = Path(folder)
    path = folder.with_name(f"{folder.name}.zip")

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
            for member in sorted(folder.rglob("*")):
                file.write(member, member.relative_to(folder))

    return write_whole(path, write)


def _numbered(instance: np.ndarray) -> np.ndarray:
    """Number instances (N,) from 1, 0 for none."""
    number = np.zeros(len(instance), np.int64)
    rows = np.flatnonzero(instance >= 0)
    number[rows] = np.unique(instance[rows], return_inverse=True)[1] + 1
    return number
