"""Furnished rooms, made on the fly: indoor scans without any files."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, DefaultDataset

from .room_layout import CLASSES, STUFF, THINGS, furnish
from .room_scan import scan
from .room_shapes import ALL, Shapes

__all__ = ["CLASSES", "STUFF", "THINGS", "RoomsDataset", "make_room", "write_rooms"]

_SPLITS = {"train": 0, "val": 1, "test": 2}
_KEYS = ("coord", "color", "normal", "segment", "instance")


def make_room(
    split: str, index: int, seed: int = 0, shapes: str = ALL, **scanner
) -> dict[str, Any]:
    """Return one scanned room; the same arguments give the same arrays.

    Args:
        split: "train", "val" or "test"; no room is in two of them.
        index: number of the room in its split.
        seed: of all rooms.
        shapes: of the furniture: "all", "seen" or "held_out", see ``RoomsDataset``.
        scanner: options of ``room_scan.scan``.

    Returns:
        coord (n, 3) float32, metres, z up, floor at z = 0; color (n, 3) float32,
        0-255; normal (n, 3) float32, unit, facing the scanner; segment (n,) int32,
        index into ``CLASSES``; instance (n,) int32, objects from 0, -1 on stuff.

    Raises:
        UserError: an unknown split or name of shapes, a scanner option out of range.
    """
    _check(split, seed, scanner)
    # the layout has a stream of its own: other scanner options see the same room
    layout, scanning = np.random.SeedSequence([seed, _SPLITS[split], index]).spawn(2)
    room = furnish(np.random.default_rng(layout), Shapes(shapes))
    data = scan(room, np.random.default_rng(scanning), **scanner)
    return {key: data[key] for key in _KEYS}


def _check(split: str, seed: int, scanner: dict) -> None:
    if split not in _SPLITS:
        raise UserError(f"rooms have no split {split!r}; use train, val or test")
    if seed < 0:
        raise UserError(f"rooms need a seed of at least 0, not {seed}")
    limits = {
        "num_viewpoints": (1, 64),
        "angular_step": (0.1, 10.0),
        "voxel": (0.0, 1.0),
        "noise": (0.0, 10.0),
        "dropout": (0.0, 0.99),
        "min_points": (0, 10**6),
    }
    for name, value in scanner.items():
        low, high = limits[name]
        if not low <= value <= high:
            raise UserError(f"rooms need {name} between {low} and {high}, not {value}")


@DATASETS.register_module()
class RoomsDataset(DefaultDataset):
    """Scans of random furnished rooms, in the shape of the host's own datasets.

    Rectangular and L-shaped rooms of 3 to 7 m with doors, windows and furniture that
    touches and stands on one another, seen from a few viewpoints only: backs and
    shadows are missing, noise grows and density falls with range. Classes are
    ``CLASSES``; the first five, ``STUFF``, have no instances.

    Splits differ in their layouts. With ``shapes="seen"`` for training and
    ``"held_out"`` for testing they differ in the objects too: no style or proportion
    of ``room_shapes`` is in both, and each class of things has some of its own in
    either (straight sofas, sofas with a chaise).

    Args:
        split: "train", "val" or "test", or several of them.
        num_scenes: rooms in each split.
        seed: of all rooms.
        transform: transforms of a sample.
        test_mode: return whole scenes with the fragments of ``test_cfg``.
        test_cfg: as in ``DefaultDataset``.
        cache: keep rooms in memory (in each worker): about 2 MB and .15 s a room.
        ignore_index: label of points that do not count; no room has any.
        loop: times the split is repeated in an epoch.
        num_viewpoints: places a room is scanned from.
        angular_step: degrees between the scanner's rays: less is denser.
        voxel: edge of the voxels that keep one point each, m.
        noise: factor on the errors of range, normal and colour.
        dropout: share of rays lost at random.
        min_points: objects seen by fewer points are left out.
        shapes: of the furniture: "all", "seen" or "held_out".

    Raises:
        UserError: an unknown split or name of shapes, no scene, or a scanner option
            out of range.
    """

    def __init__(
        self,
        split: str | list[str] = "train",
        num_scenes: int = 200,
        seed: int = 0,
        transform: list[dict] | None = None,
        test_mode: bool = False,
        test_cfg: dict | None = None,
        cache: bool = True,
        ignore_index: int = -1,
        loop: int = 1,
        num_viewpoints: int = 3,
        angular_step: float = 1.0,
        voxel: float = 0.025,
        noise: float = 1.0,
        dropout: float = 0.03,
        min_points: int = 10,
        shapes: str = ALL,
    ):
        if num_scenes < 1:
            raise UserError(f"rooms need num_scenes of at least 1, not {num_scenes}")
        self.num_scenes = num_scenes
        self.seed = seed
        self.shapes = Shapes(shapes).name
        self.scanner = dict(
            num_viewpoints=num_viewpoints,
            angular_step=angular_step,
            voxel=voxel,
            noise=noise,
            dropout=dropout,
            min_points=min_points,
        )
        self._rooms: dict[tuple[str, int], dict[str, Any]] = {}
        super().__init__(
            split=split,
            data_root="rooms",
            transform=transform,
            test_mode=test_mode,
            test_cfg=test_cfg,
            cache=cache,
            ignore_index=ignore_index,
            loop=loop,
        )

    def describe(self) -> str:
        shapes = "" if self.shapes == ALL else f", {self.shapes} shapes"
        return f"random rooms ({self.split}, seed {self.seed}{shapes})"

    def get_data_list(self) -> list[tuple[str, int]]:
        """Return (split, index) of all rooms."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        for split in splits:
            _check(split, self.seed, self.scanner)
        return [(split, i) for split in splits for i in range(self.num_scenes)]

    def get_data_name(self, idx: int) -> str:
        """Return the name of a room."""
        split, index = self.data_list[idx % len(self.data_list)]
        return room_name(split, index)

    def get_split_name(self, idx: int) -> str:
        """Return the split of a room."""
        return self.data_list[idx % len(self.data_list)][0]

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a room, to change freely."""
        key = self.data_list[idx % len(self.data_list)]
        room = self._rooms.get(key)
        if room is None:
            room = make_room(*key, self.seed, self.shapes, **self.scanner)
            if self.cache:
                self._rooms[key] = room
        data = {name: values.copy() for name, values in room.items()}
        data["name"] = self.get_data_name(idx)
        data["split"] = key[0]
        return data


def room_name(split: str, index: int) -> str:
    """Return the name of a room, e.g. ``room_val_0003``."""
    return f"room_{split}_{index:04d}"


def write_rooms(
    root: str | Path,
    split: str,
    num_scenes: int,
    seed: int = 0,
    shapes: str = ALL,
    **scanner,
) -> list[Path]:
    """Write rooms in the default folder layout: ``root/split/name/{coord,...}.npy``.

    Args:
        root: folder of the splits; made if missing.
        split: "train", "val" or "test".
        num_scenes: rooms to write; a room that is there already is replaced.
        seed: of all rooms.
        shapes: of the furniture, see ``RoomsDataset``.
        scanner: options of ``room_scan.scan``.

    Returns:
        The folders, each written whole.

    Raises:
        UserError: an unknown split or name of shapes, or a folder that cannot be
            written.
    """
    folders = []
    for index in range(num_scenes):
        room = make_room(split, index, seed, shapes, **scanner)
        room["color"] = np.rint(room["color"]).astype(np.uint8)
        folder = Path(root) / split / room_name(split, index)
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            partial.mkdir(parents=True, exist_ok=True)
            for key, values in room.items():
                np.save(partial / f"{key}.npy", values)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            reason = error.strerror or error
            raise UserError(f"cannot write room {folder}: {reason}") from None
        folders.append(folder)
    return folders
