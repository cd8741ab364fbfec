"""Streets as files: the folder layouts of SemanticKITTI, nuScenes and the default."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import SEMANTIC_KITTI_SEQUENCES

from .nuscenes_tables import in_split, placement
from .street_layout import CLASSES
from .street_scan import SENSORS
from .streets import make_street, street_name

SPLITS = ("train", "val", "test")

# raw ids of SemanticKITTI
KITTI_IDS = {
    "car": 10,
    "truck": 18,
    "bicycle": 11,
    "pedestrian": 30,
    "road": 40,
    "sidewalk": 48,
    "terrain": 72,
    "building": 50,
    "fence": 51,
    "vegetation": 70,
    "trunk": 71,
    "pole": 80,
    "sign": 81,
}

# categories of nuScenes
NUSCENES_CATEGORIES = {
    "car": 17,
    "truck": 23,
    "bicycle": 14,
    "pedestrian": 2,
    "road": 24,
    "sidewalk": 26,
    "terrain": 27,
    "building": 28,
    "fence": 28,
    "vegetation": 30,
    "trunk": 30,
    "pole": 28,
    "sign": 28,
}

_STEP = 0.5  # m between two scans of a street
_SCAN_TIME = {64: 0.1, 32: 0.05}  # s
_CAMERA_FROM_LIDAR = np.array(
    [[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]], float
)
# nuScenes' sensor looks along y
_CAR_SENSOR = {
    "translation": [0.94, 0.0, 1.84],
    "rotation": [0.5**0.5, 0, 0, -(0.5**0.5)],
}


def write_folder(
    root: str | Path,
    scenes: Mapping[str, int],
    seed: int = 0,
    **scanner: Any,
) -> Path:
    """Write streets as ``root/split/street_train_0000/{coord,strength,...}.npy``.

    Args:
        root: a folder that does not exist yet, or is empty; it is written whole or
            not at all.
        scenes: number of streets of each split.
        seed: of all streets.
        scanner: options of ``street_scan.scan_street``.

    Raises:
        UserError: the folder is in use, a split or an option is unknown, the disk is
            full.
    """

    def write(folder: Path) -> None:
        for split, index in _streets(scenes):
            place = folder / split / street_name(split, index)
            place.mkdir(parents=True)
            for name, values in make_street(split, index, seed, **scanner).items():
                np.save(place / f"{name}.npy", values)

    return _written_whole(root, scenes, write)


def write_semantic_kitti(
    root: str | Path,
    scenes: Mapping[str, int],
    seed: int = 0,
    frames: int = 1,
    **scanner: Any,
) -> Path:
    """Write ``root/dataset/sequences/00/{velodyne,labels,poses.txt,...}``.

    Street after street is dealt out to the sequences of its split, so that a split
    is complete with as many streets as sequences (train 10, val 1, test 11). The test
    split has no labels.

    Args:
        frames: scans of a street, half a metre apart.
        Others as in ``write_folder``; 64 beams unless ``beams`` says otherwise.

    Raises:
        UserError: as ``write_folder``.
    """
    ids = np.array([KITTI_IDS[name] for name in CLASSES], np.uint32)
    beams = scanner.setdefault("beams", 64)

    def write(folder: Path) -> None:
        sequences: dict[int, list[tuple[str, int]]] = {}
        for split, index in _streets(scenes):
            of_split = SEMANTIC_KITTI_SEQUENCES[split]
            place = of_split[index % len(of_split)]
            sequences.setdefault(place, []).append((split, index))
        for sequence, streets in sequences.items():
            place = folder / "dataset" / "sequences" / f"{sequence:02d}"
            (place / "velodyne").mkdir(parents=True)
            if streets[0][0] != "test":
                (place / "labels").mkdir()
            poses = []
            for number, (split, index) in enumerate(streets):
                for frame in range(frames):
                    advance = frame * _STEP
                    scan = make_street(split, index, seed, advance, **scanner)
                    name = f"{len(poses):06d}"
                    values = np.column_stack([scan["coord"], scan["strength"]])
                    values.astype("<f4").tofile(place / "velodyne" / f"{name}.bin")
                    if split != "test":
                        upper = (scan["instance"] + 1).astype(np.uint32) << 16
                        label = upper | ids[scan["segment"]]
                        label.astype("<u4").tofile(place / "labels" / f"{name}.label")
                    pose = np.eye(4)
                    pose[:2, 3] = advance, 1000 * number  # streets lie side by side
                    poses.append(pose)
            _write_motion(place, np.array(poses), _SCAN_TIME[beams])

    return _written_whole(root, scenes, write)


def _write_motion(place: Path, lidar: np.ndarray, scan_time: float) -> None:
    camera = _CAMERA_FROM_LIDAR @ lidar @ np.linalg.inv(_CAMERA_FROM_LIDAR)
    rows = camera[:, :3].reshape(len(camera), 12)
    (place / "poses.txt").write_text(_text(rows))
    identity = _text(np.eye(4)[None, :3].reshape(1, 12))
    tr = _text(_CAMERA_FROM_LIDAR[None, :3].reshape(1, 12))
    lines = [f"P{camera}: {identity}" for camera in range(4)] + [f"Tr: {tr}"]
    (place / "calib.txt").write_text("".join(lines))
    times = np.arange(len(lidar))[:, None] * scan_time
    (place / "times.txt").write_text(_text(times))


def _text(rows: np.ndarray) -> str:
    return "".join(" ".join(f"{value:.9e}" for value in row) + "\n" for row in rows)


def write_nuscenes(
    root: str | Path,
    scenes: Mapping[str, int],
    seed: int = 0,
    frames: int = 1,
    info: bool = True,
    **scanner: Any,
) -> Path:
    """Write ``root/raw`` as nuScenes is published and ``root/info`` as Pointcept's.

    A street is a scene with one key frame, which has panoptic and lidarseg labels
    outside the test split, and the sweeps before it.

    Args:
        frames: scans of a street, half a metre apart; the last is the key frame.
        info: also write the info files.
        Others as in ``write_folder``; 32 beams unless ``beams`` says otherwise.

    Raises:
        UserError: as ``write_folder``.
    """
    scanner.setdefault("beams", 32)

    def write(folder: Path) -> None:
        tables = _Tables(folder / "raw")
        infos: dict[str, list[dict]] = {split: [] for split in scenes}
        for split, index in _streets(scenes):
            scans = [
                make_street(split, index, seed, frame * _STEP, **scanner)
                for frame in range(frames)
            ]
            infos[split].append(tables.add(split, index, scans, scanner["beams"]))
        tables.write()
        if info:
            (folder / "info").mkdir()
            for split, entries in infos.items():
                file = f"nuscenes_infos_10sweeps_{split}.pkl"
                (folder / "info" / file).write_bytes(pickle.dumps(entries, protocol=4))

    return _written_whole(root, scenes, write)


class _Tables:
    """Rows of nuScenes' tables, and the files they name."""

    def __init__(self, raw: Path):
        self.raw = raw
        self.rows: dict[str, dict[str, list[dict]]] = {}

    def add(
        self, split: str, index: int, scans: list[dict], beams: int
    ) -> dict[str, Any]:
        """Add a street; return its entry in an info file."""
        version = "v1.0-test" if split == "test" else "v1.0-trainval"
        tables = self.rows.setdefault(version, _empty_tables())
        scene = _scene_name(split, index)
        token = {
            kind: _token(scene, kind) for kind in ("scene", "sample", "sensor", "lidar")
        }
        tables["scene"].append({"token": token["scene"], "name": scene})
        tables["sample"].append(
            {"token": token["sample"], "scene_token": token["scene"]}
        )
        tables["calibrated_sensor"].append(
            {
                "token": token["lidar"],
                "sensor_token": _token("LIDAR_TOP"),
                **_CAR_SENSOR,
            }
        )
        files = []
        for frame, scan in enumerate(scans):
            key = frame == len(scans) - 1
            files.append(self._write_scan(scene, frame, scan, beams, key))
            tokens = [_token(scene, "data", str(i)) for i in range(len(scans))]
            pose = {
                "translation": [float(frame * _STEP), 0.0, 0.0],
                "rotation": [1.0, 0.0, 0.0, 0.0],
            }
            stamp = int(1e6 * _SCAN_TIME[beams] * frame)
            tables["ego_pose"].append(
                {"token": tokens[frame], "timestamp": stamp, **pose}
            )
            tables["sample_data"].append(
                {
                    "token": tokens[frame],
                    "sample_token": token["sample"],
                    "ego_pose_token": tokens[frame],
                    "calibrated_sensor_token": token["lidar"],
                    "timestamp": stamp,
                    "fileformat": "pcd",
                    "is_key_frame": key,
                    "filename": files[frame],
                    "prev": tokens[frame - 1] if frame else "",
                    "next": "" if key else tokens[frame + 1],
                }
            )
        entry: dict[str, Any] = {
            "lidar_path": files[-1],
            "lidar_token": tokens[-1],
            "token": token["sample"],
            "ref_from_car": np.linalg.inv(placement(_CAR_SENSOR)),
            "timestamp": stamp * 1e-6,
            "sweeps": _info_sweeps(files, tokens, _SCAN_TIME[beams]),
        }
        if split != "test":
            entry["gt_segment_path"] = self._write_labels(
                version, tables, tokens[-1], scans[-1]
            )
        return entry

    def _write_scan(
        self, scene: str, frame: int, scan: dict, beams: int, key: bool
    ) -> str:
        name = f"{'samples' if key else 'sweeps'}/LIDAR_TOP/{scene}__{frame}.pcd.bin"
        coord = scan["coord"]
        elevation = np.degrees(np.arctan2(coord[:, 2], np.hypot(*coord[:, :2].T)))
        angles = np.array(SENSORS[beams].elevations)
        ring = np.searchsorted((angles[1:] + angles[:-1]) / 2, elevation)
        intensity = np.round(255 * scan["strength"])
        values = np.column_stack([-coord[:, 1], coord[:, 0], coord[:, 2]])
        values = np.column_stack([values, intensity, ring])
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values.astype("<f4").tofile(path)
        return name

    def _write_labels(
        self, version: str, tables: dict[str, list[dict]], token: str, scan: dict
    ) -> str:
        ids = np.array([NUSCENES_CATEGORIES[name] for name in CLASSES])
        category = ids[scan["segment"]]
        names = {
            "lidarseg": f"lidarseg/{version}/{token}_lidarseg.bin",
            "panoptic": f"panoptic/{version}/{token}_panoptic.npz",
        }
        for table, name in names.items():
            (self.raw / name).parent.mkdir(parents=True, exist_ok=True)
            tables[table].append(
                {"token": token, "sample_data_token": token, "filename": name}
            )
        category.astype(np.uint8).tofile(self.raw / names["lidarseg"])
        panoptic = (1000 * category + scan["instance"] + 1).astype(np.uint16)
        np.savez_compressed(self.raw / names["panoptic"], data=panoptic)
        return names["lidarseg"]

    def write(self) -> None:
        """Write the tables."""
        for version, tables in self.rows.items():
            folder = self.raw / version
            folder.mkdir(parents=True)
            for name, rows in tables.items():
                (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))


def _empty_tables() -> dict[str, list[dict]]:
    names = (
        "scene",
        "sample",
        "sample_data",
        "calibrated_sensor",
        "ego_pose",
        "lidarseg",
        "panoptic",
    )
    sensor = {
        "token": _token("LIDAR_TOP"),
        "channel": "LIDAR_TOP",
        "modality": "lidar",
    }
    return {**{name: [] for name in names}, "sensor": [sensor]}


def _info_sweeps(files: list[str], tokens: list[str], scan_time: float) -> list[dict]:
    """Return the nine sweeps before a key frame; short sequences repeat the first."""
    sweeps: list[dict[str, Any]] = []
    for back in range(1, len(files)):
        motion = np.eye(4)
        motion[1, 3] = -_STEP * back
        sweeps.append(
            {
                "lidar_path": files[-1 - back],
                "sample_data_token": tokens[-1 - back],
                "transform_matrix": motion,
                "time_lag": scan_time * back,
            }
        )
    if not sweeps:
        sweeps.append(
            {
                "lidar_path": files[-1],
                "sample_data_token": tokens[-1],
                "transform_matrix": None,
                "time_lag": 0,
            }
        )
    return (sweeps + [sweeps[-1]] * 9)[:9]


def _scene_name(split: str, index: int) -> str:
    """Return the name of the index-th scene that belongs to a split."""
    if split == "test":
        return f"scene-{2000 + index}"
    names = (f"scene-{number:04d}" for number in range(1, 1111))
    found = (name for name in names if in_split(name, split))
    try:
        return next(name for i, name in enumerate(found) if i == index)
    except StopIteration:
        raise UserError(
            f"nuScenes' split {split!r} has no room for {index + 1} streets; write "
            "fewer"
        ) from None


def _token(*parts: str) -> str:
    return hashlib.md5("/".join(parts).encode(), usedforsecurity=False).hexdigest()


def _streets(scenes: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(split, index) for split, count in scenes.items() for index in range(count)]


def _written_whole(
    root: str | Path, scenes: Mapping[str, int], write: Callable[[Path], None]
) -> Path:
    root = Path(root)
    for split, count in scenes.items():
        if split not in SPLITS or count < 0:
            raise UserError(
                f"streets: {count} scenes of split {split!r}; use {', '.join(SPLITS)} "
                "and 0 or more"
            )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} exists already; name a new folder for the streets")
    temporary = root.parent / f".{root.name}.tmp{os.getpid()}"
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        os.replace(temporary, root)
    except OSError as error:
        raise UserError(
            f"streets could not be written to {root} ({error.strerror or error}); "
            "nothing is left there"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root
