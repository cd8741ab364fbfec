"""Tiny data sets of random points in the folder layouts that the readers expect.

For tests of pipelines where the real data is not at hand: the shapes, types and names
are right, the content means nothing.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

SPLITS = ("train", "val")


def _room(rng: np.random.Generator, num_points: int, num_classes: int):
    """Return boxes on a floor: arrays as Pointcept's indoor preprocessing has them."""
    boxes = 5
    lowest = min(2, num_classes - 1)
    segment = np.append(0, rng.integers(lowest, num_classes, boxes))
    which = rng.integers(0, boxes + 1, num_points)
    corner = rng.uniform(0, 4, (boxes + 1, 3)) * (1, 1, 0)
    size = rng.uniform(0.4, 1.2, (boxes + 1, 3))
    corner[0], size[0] = 0, (5, 5, 0.05)
    coord = corner[which] + rng.random((num_points, 3)) * size[which]
    normal = rng.standard_normal((num_points, 3))
    return {
        "coord": coord.astype(np.float32),
        "color": rng.integers(0, 256, (num_points, 3)).astype(np.uint8),
        "normal": (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(
            np.float32
        ),
        "segment": segment[which].astype(np.int16),
        "instance": np.where(which > 0, which - 1, -1).astype(np.int16),
    }


def _write_scene(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)


def write_folder(
    root: str | Path,
    splits: Sequence[str] = SPLITS,
    scenes: int = 2,
    num_points: int = 2000,
    num_classes: int = 8,
    seed: int = 0,
) -> Path:
    """Write the default folder layout: ``root/split/scene/{coord,...}.npy``."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for index in range(scenes):
            room = _room(rng, num_points, num_classes)
            _write_scene(Path(root) / split / f"scene{index:04d}", room)
    return Path(root)


def write_scannet(
    root: str | Path,
    splits: Sequence[str] = SPLITS,
    scenes: int = 2,
    num_points: int = 2000,
    seed: int = 0,
) -> Path:
    """Write ScanNet and ScanNet200 as Pointcept preprocesses them."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for index in range(scenes):
            room = _room(rng, num_points, 20)
            room["segment20"] = room.pop("segment")
            room["segment200"] = (room["segment20"] * 9 % 200).astype(np.int16)
            name = (
                f"scene{index:04d}_{SPLITS.index(split) if split in SPLITS else 2:02d}"
            )
            _write_scene(Path(root) / split / name, room)
    return Path(root)


def write_s3dis(
    root: str | Path,
    areas: Sequence[int] = (1, 2, 3, 4, 5, 6),
    rooms: int = 1,
    num_points: int = 2000,
    seed: int = 0,
) -> Path:
    """Write S3DIS as Pointcept preprocesses it: ``root/Area_1/office_1/...``."""
    rng = np.random.default_rng(seed)
    for area in areas:
        for index in range(1, rooms + 1):
            room = _room(rng, num_points, 13)
            _write_scene(Path(root) / f"Area_{area}" / f"office_{index}", room)
    return Path(root)


def write_scannetpp(
    root: str | Path,
    splits: Sequence[str] = SPLITS,
    chunks: int = 2,
    num_points: int = 2000,
    seed: int = 0,
) -> Path:
    """Write ScanNet++ as Pointcept preprocesses it, with three labels a point."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for index in range(chunks):
            room = _room(rng, num_points, 100)
            for key in ("segment", "instance"):
                none = np.full((num_points, 2), -1, np.int16)
                room[key] = np.column_stack([room[key], none])
            _write_scene(Path(root) / split / f"chunk_{index}", room)
    return Path(root)


def write_structured3d(
    root: str | Path,
    splits: Sequence[str] = SPLITS,
    scenes: int = 2,
    num_points: int = 2000,
    seed: int = 0,
) -> Path:
    """Write Structured3D: ``root/train/scene_00000/room_0/{coord,...}.npy``."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for index in range(scenes):
            room = _room(rng, num_points, 25)
            folder = Path(root) / split / f"scene_{index:05d}" / f"room_{index}"
            _write_scene(folder, room)
    return Path(root)


def write_scannet_pairs(
    root: str | Path, scenes: int = 2, num_points: int = 2000, seed: int = 0
) -> Path:
    """Write ScanNet's frame pairs: ``root/SCENE/pcd/{overlap.txt,0.pth,1.pth}``."""
    rng = np.random.default_rng(seed)
    for index in range(scenes):
        room = _room(rng, num_points, 20)
        name = f"scene{index:04d}_00"
        folder = Path(root) / name / "pcd"
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(2):
            seen = rng.permutation(num_points)[: num_points * 3 // 4]
            arrays = {key: room[key][seen] for key in ("coord", "color")}
            torch.save(arrays, folder / f"{frame}.pth")
        pair = f"{name}/pcd/0.pth {name}/pcd/1.pth 0.6\n"
        (folder / "overlap.txt").write_text(pair)
    return Path(root)


def _scan(rng: np.random.Generator, num_points: int):
    """Return coord (n, 3) of a ground with posts on it, intensity, thing (n,)."""
    thing = rng.integers(0, 6, num_points)
    angle, reach = rng.uniform(0, 2 * np.pi, 6), rng.uniform(5, 30, 6)
    centre = np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    coord = np.empty((num_points, 3), np.float32)
    spread = np.where(thing == 0, 30.0, 0.8)[:, None]
    coord[:, :2] = np.where(thing[:, None] == 0, 0, centre[thing])
    coord[:, :2] += rng.uniform(-1, 1, (num_points, 2)) * spread
    coord[:, 2] = -1.7 + np.where(thing == 0, 0.02, 1.5) * rng.random(num_points)
    return coord, rng.random(num_points).astype(np.float32), thing


def write_semantic_kitti(
    root: str | Path,
    sequences: Sequence[int] = (0, 8),
    scans: int = 2,
    num_points: int = 2000,
    seed: int = 0,
    labels: bool = True,
) -> Path:
    """Write ``root/dataset/sequences/00/{velodyne,labels}`` with instances.

    Things are cars and persons (raw ids 10 and 30); the upper half of a label is the
    instance.
    """
    rng = np.random.default_rng(seed)
    for sequence in sequences:
        folder = Path(root) / "dataset" / "sequences" / f"{sequence:02d}"
        for name in ("velodyne", *(("labels",) if labels else ())):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(scans):
            coord, strength, thing = _scan(rng, num_points)
            scan = np.column_stack([coord, strength]).astype("<f4")
            scan.tofile(folder / "velodyne" / f"{index:06d}.bin")
            if labels:
                raw = np.where(thing == 0, 40, np.where(thing % 2 == 0, 30, 10))
                label = (thing << 16 | raw).astype("<u4")
                label.tofile(folder / "labels" / f"{index:06d}.label")
    return Path(root)


def write_nuscenes(
    root: str | Path,
    splits: Sequence[str] = SPLITS,
    scans: int = 2,
    num_points: int = 2000,
    seed: int = 0,
    sweeps: int = 10,
    labels: bool = True,
) -> Path:
    """Write ``root/raw`` and Pointcept's ``root/info`` files, with panoptic labels.

    Each scan has ``sweeps - 1`` earlier ones, all of which are the same file half a
    metre behind.
    Things are cars and pedestrians (categories 17 and 2); panoptic labels are 1000
    times the category plus the instance.
    """
    rng = np.random.default_rng(seed)
    raw, info = Path(root) / "raw", Path(root) / "info"
    info.mkdir(parents=True, exist_ok=True)
    places = (
        "samples/LIDAR_TOP",
        "lidarseg/v1.0-trainval",
        "panoptic/v1.0-trainval",
        "sweeps/LIDAR_TOP",
    )
    for place in places:
        (raw / place).mkdir(parents=True, exist_ok=True)
    for split in splits:
        entries = []
        for index in range(scans):
            token = f"{split}{index:028d}"
            coord, strength, thing = _scan(rng, num_points)
            scan = np.column_stack([coord, 255 * strength, np.zeros(num_points)])
            lidar = f"{places[0]}/{token}.pcd.bin"
            earlier = f"{places[3]}/{token}.pcd.bin"
            scan.astype("<f4").tofile(raw / lidar)
            motion = np.eye(4)
            motion[0, 3] = -0.5
            (scan - np.array([-0.5, 0, 0, 0, 0])).astype("<f4").tofile(raw / earlier)
            sweep = {
                "lidar_path": earlier,
                "sample_data_token": f"{token}-",
                "transform_matrix": motion,
                "time_lag": 0.05,
            }
            entry = {
                "lidar_path": lidar,
                "lidar_token": token,
                "token": token,
                "sweeps": [sweep] * (sweeps - 1),
                "ref_from_car": np.eye(4),
                "car_from_global": np.eye(4),
                "timestamp": 0.5 * index,
            }
            entry["ref_from_car"] = entry["car_from_global"] = np.eye(4)
            if labels:
                category = np.where(thing == 0, 24, np.where(thing % 2 == 0, 2, 17))
                entry["gt_segment_path"] = f"{places[1]}/{token}_lidarseg.bin"
                category.astype(np.uint8).tofile(raw / entry["gt_segment_path"])
                panoptic = (1000 * category + thing).astype(np.uint16)
                name = raw / places[2] / f"{token}_panoptic.npz"
                np.savez_compressed(name, data=panoptic)
            entries.append(entry)
        file = info / f"nuscenes_infos_{sweeps}sweeps_{split}.pkl"
        file.write_bytes(pickle.dumps(entries))
    return Path(root)
