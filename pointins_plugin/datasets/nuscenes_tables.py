"""Scans of nuScenes from its own tables, without its devkit."""

import json
import os
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError

# Numbers of the scenes of the official val split; train is the rest of v1.0-trainval.
_VAL = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 "
    "629-630 632-638 770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 "
    "966-969 971-972 1059-1073"
)
_MINI_VAL = "103 916"

VERSIONS = {
    "train": "v1.0-trainval",
    "val": "v1.0-trainval",
    "test": "v1.0-test",
    "mini_train": "v1.0-mini",
    "mini_val": "v1.0-mini",
}


def _names(ranges: str) -> frozenset[str]:
    numbers: list[int] = []
    for word in ranges.split():
        low, _, high = word.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return frozenset(f"scene-{number:04d}" for number in numbers)


VAL_SCENES = _names(_VAL)
MINI_VAL_SCENES = _names(_MINI_VAL)


def in_split(scene: str, split: str) -> bool:
    """Return whether a scene, of the split's version, belongs to it."""
    if split == "test":
        return True
    held_out = MINI_VAL_SCENES if split.startswith("mini") else VAL_SCENES
    return (scene in held_out) == split.endswith("val")


def rotation_matrix(quaternion: list[float]) -> np.ndarray:
    """Return the (3, 3) rotation of a quaternion (w, x, y, z) of any length."""
    w, x, y, z = np.asarray(quaternion, float) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def placement(row: dict[str, Any]) -> np.ndarray:
    """Return the (4, 4) map of a row with ``rotation`` and ``translation``."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(row["rotation"])
    matrix[:3, 3] = row["translation"]
    return matrix


def read_scans(
    root: str, split: str, past_sweeps: int = 0, labels: str | None = "panoptic"
) -> list[dict[str, Any]]:
    """Return the LiDAR key frames of a split, scene by scene.

    The tables of the full data set hold millions of rows: reading them takes half a
    minute and several GB for that time; poses are read only for past sweeps.

    Args:
        root: folder of ``samples`` and ``v1.0-*``.
        split: one of ``VERSIONS``.
        past_sweeps: of each scan.
        labels: the table that names their files, ``"panoptic"`` or ``"lidarseg"``;
            None, as in the test split, for none.

    Returns:
        A dictionary a scan: ``lidar_path`` below root, ``lidar_token``,
        ``label_path`` below root (None without labels), ``car_from_sensor``
        (4, 4) and ``sweeps``, the latest first: (``lidar_path``, (4, 4) map into the
        scan's frame, seconds before the scan).

    Raises:
        UserError: a table is missing or damaged, or the split has no scan.
    """
    folder = os.path.join(root, VERSIONS[split])
    try:
        return _read_scans(
            folder, split, past_sweeps, None if split == "test" else labels
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"tables {folder} do not fit together ({type(error).__name__}: {error}); "
            "get them anew"
        ) from None


def _read_scans(
    folder: str, split: str, past_sweeps: int, labels: str | None
) -> list[dict[str, Any]]:
    scenes = {
        row["token"]: row["name"]
        for row in _table(folder, "scene")
        if in_split(row["name"], split)
    }
    samples = {
        row["token"]: row["scene_token"]
        for row in _table(folder, "sample")
        if row["scene_token"] in scenes
    }
    lidar = {
        row["token"]: row
        for row in _table(folder, "sample_data")
        if row["sample_token"] in samples and "/LIDAR_TOP/" in row["filename"]
    }
    sensors = {
        row["token"]: placement(row) for row in _table(folder, "calibrated_sensor")
    }
    label_files: dict[str, str] = {}
    if labels:
        label_files = {
            row["sample_data_token"]: row["filename"] for row in _table(folder, labels)
        }
    poses: dict[str, np.ndarray] = {}
    if past_sweeps:
        wanted = {row["ego_pose_token"] for row in lidar.values()}
        poses = {
            row["token"]: placement(row)
            for row in _table(folder, "ego_pose")
            if row["token"] in wanted
        }

    def global_from_sensor(row: dict[str, Any]) -> np.ndarray:
        return poses[row["ego_pose_token"]] @ sensors[row["calibrated_sensor_token"]]

    def sweeps(row: dict[str, Any]) -> list[tuple[str, np.ndarray, float]]:
        found: list[tuple[str, np.ndarray, float]] = []
        past = row
        while len(found) < past_sweeps and past["prev"] in lidar:
            past = lidar[past["prev"]]
            motion = np.linalg.inv(global_from_sensor(row)) @ global_from_sensor(past)
            lag = 1e-6 * (row["timestamp"] - past["timestamp"])
            found.append((past["filename"], motion, lag))
        return found

    frames = [row for row in lidar.values() if row["is_key_frame"]]
    frames.sort(
        key=lambda row: (scenes[samples[row["sample_token"]]], row["timestamp"])
    )
    if not frames:
        raise UserError(
            f"tables {folder} list no LiDAR scan of split {split!r}; get them anew"
        )
    return [
        {
            "lidar_path": row["filename"],
            "lidar_token": row["token"],
            "label_path": label_files[row["token"]] if labels else None,
            "car_from_sensor": sensors[row["calibrated_sensor_token"]],
            "sweeps": sweeps(row),
        }
        for row in frames
    ]


def _table(folder: str, name: str) -> list[dict[str, Any]]:
    path = os.path.join(folder, f"{name}.json")
    try:
        with open(path, "rb") as file:
            rows = json.load(file)
    except OSError as error:
        hint = "get nuScenes' metadata"
        if name in ("panoptic", "lidarseg"):
            hint = f"get the nuScenes-{name} labels"
        raise UserError(
            f"table {path} cannot be read ({error.strerror or error}); {hint} "
            "(nuscenes.org)"
        ) from None
    except ValueError as error:
        raise UserError(f"table {path} is no JSON ({error}); get it anew") from None
    if not isinstance(rows, list):
        raise UserError(f"table {path} is no list of rows; get it anew")
    return rows
