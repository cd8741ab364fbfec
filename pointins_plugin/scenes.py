"""Scenes as folders of arrays: where they are, how they are read, what is wrong."""

import glob
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.safe_pickle import plain, torch_allows, torch_globals
from pointins_plugin.scale_check import hardly_metres

# dtype of each entry of a scene, as transforms and models expect it
_DTYPES = {
    "coord": np.float32,
    "color": np.float32,
    "normal": np.float32,
    "strength": np.float32,
}
_VECTORS = ("coord", "color", "normal")
_LABELS = ("segment", "segment20", "segment200", "instance", "superpoint")
PER_POINT = ("coord", "color", "normal", "strength", *_LABELS)
# Farther from the origin than this (metres) float32 cannot tell millimetres apart.
_FAR = 1e4
# Scenes of one data set that differ by so much in width are in metres and millimetres.
_OTHER_UNITS = 100


def scene_folders(
    data_root: str | Path, split: str | Sequence[str], hint: str = ""
) -> list[str]:
    """Return the folders of a split's scenes, sorted within each split.

    Args:
        data_root: folder of the splits.
        split: names of folders (wildcards allowed) or of json files, both below
            ``data_root``; a json file lists paths of scenes, also below it.
        hint: what a user without the data can do, for the message.

    Raises:
        UserError: a split is missing, empty or no list of scenes.
    """
    hint = f"; {hint}" if hint else ""
    scenes: list[str] = []
    for name in [split] if isinstance(split, str) else split:
        place = Path(data_root) / name
        if place.is_file():
            try:
                listed = json.loads(place.read_text(encoding="utf-8"))
                found = [str(Path(data_root) / scene) for scene in listed]
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"split {place} is no json list of scene paths ({error})"
                ) from None
            for scene in found:
                if not os.path.isdir(scene):
                    raise UserError(f"split {place} names {scene}, which is no folder")
        elif place.is_dir() or glob.has_magic(str(name)):
            # brackets in the names of folders that are there are no wildcards
            known, rest = (place, "") if place.is_dir() else (Path(data_root), name)
            pattern = os.path.join(glob.escape(str(known)), rest, "*")
            # glob passes over hidden folders: half-written scenes, checkpoints
            found = sorted(filter(os.path.isdir, glob.glob(pattern)))
        else:
            raise UserError(f"data folder {place} does not exist{hint}")
        if not found:
            raise UserError(f"data folder {place} holds no scene{hint}")
        scenes += found
    return scenes


def read_array(path: str | Path) -> np.ndarray:
    """Read a ``.npy`` file.

    Raises:
        UserError: it is missing, damaged, holds Python objects or several arrays.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error) or "empty file").splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason})") from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise UserError(f"{path} cannot be read (it is an .npz archive, not one array)")
    return found


def read_scene(folder: str | Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read those of the named arrays that a scene's folder holds.

    Raises:
        UserError: an array cannot be read.
    """
    files = {name: Path(folder) / f"{name}.npy" for name in names}
    return {name: read_array(file) for name, file in files.items() if file.is_file()}


def form_problem(scene: dict[str, Any]) -> str | None:
    """Return in one line what is wrong with the shapes and kinds of arrays, or None.

    Args:
        scene: arrays by name; their numbers, NaN among them, are not looked at.
    """
    coord = scene.get("coord")
    if coord is None:
        return "has no coord.npy"
    if coord.ndim != 2 or coord.shape[1] != 3:
        return f"coord.npy has shape {coord.shape}, not (N, 3)"
    if len(coord) < 2:
        return f"has {len(coord)} point{'s' * (len(coord) != 1)}, at least 2 are needed"
    for key in PER_POINT:
        if key in scene:
            problem = _array_problem(scene[key], key, len(coord))
            if problem:
                return f"{key}.npy {problem}"
    return None


def scene_problem(scene: dict[str, Any]) -> str | None:
    """Return in one line why a scene cannot be used, or None.

    Args:
        scene: arrays by name, as read from its folder.
    """
    problem = form_problem(scene)
    if problem:
        return problem
    coord = scene["coord"]
    for key in PER_POINT:
        if key in scene and scene[key].dtype.kind == "f":
            bad = ~np.isfinite(scene[key]).reshape(len(coord), -1).all(1)
            if bad.any():
                count = int(bad.sum())
                return f"{key}.npy has {count} row{'s' * (count != 1)} with NaN or inf"
    problem = _extent_problem(coord)
    if problem:
        return problem
    if np.ptp(coord, axis=0).max() == 0:
        return f"all {len(coord)} points lie on one place"
    if (
        "color" in scene
        and not 0 <= scene["color"].min() <= scene["color"].max() <= 255
    ):
        low, high = scene["color"].min(), scene["color"].max()
        return f"color.npy ranges from {low:g} to {high:g}; write 0-255 or 0-1"
    return None


def _extent_problem(coord: np.ndarray) -> str | None:
    far = np.abs(near_origin(coord)[0]).max(1) > _FAR
    if not far.any():
        return None
    count, first = int(far.sum()), int(far.argmax())
    place = ", ".join(f"{value:g}" for value in coord[first])
    return (
        f"coord.npy has {count} row{'s' * (count != 1)} farther than "
        f"{_FAR / 1000:g} km from its median, the first row {first} at ({place}): "
        "float32 would lose millimetres there; take out stray points, or cut the "
        "scene into parts"
    )


def near_origin(coord: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move map coordinates to where float32 tells millimetres apart.

    Others stay as they are. What is taken off is the median, which a stray point does
    not move.

    Args:
        coord: (N, 3) metres, N > 0.

    Returns:
        The coordinates, and (3,) what was taken off them: whole metres, or 0.
    """
    corner = np.zeros(3)
    if np.abs(coord).max() > _FAR:
        corner = np.floor(np.median(coord, axis=0)).astype(np.float64)
        coord = coord - corner
    return coord, corner


def _array_problem(array: np.ndarray, key: str, num_points: int) -> str | None:
    # truth values are labels, but cannot be subtracted
    if array.dtype.kind not in ("iuf" if key in _VECTORS else "biuf"):
        return f"holds {array.dtype}, not numbers"
    if array.ndim == 0 or len(array) != num_points:
        rows = len(array) if array.ndim else "no"
        return f"has {rows} rows, but coord.npy {num_points}"
    if key in _VECTORS and (array.ndim != 2 or array.shape[1] < 3):
        return f"has shape {array.shape}, not (N, 3)"
    if key in _LABELS:
        if array.size != num_points:
            return f"has shape {array.shape}, not (N,)"
        if array.dtype.kind != "b" and array.max() > np.iinfo(np.int32).max:
            return f"holds {array.max():g}, too large for a label"
    return None


def color_range(color: np.ndarray) -> str:
    """Return ``"0-1"`` or ``"0-255"``, the range colours are written in.

    Integers are 0-255. Floats are 0-1 if none exceeds one (an all-black scene reads
    alike in both).
    """
    if np.issubdtype(color.dtype, np.floating) and color.max(initial=0) <= 1:
        return "0-1"
    return "0-255"


def strength_range(strength: np.ndarray) -> int:
    """Return 1, 255 or 65535, up to which intensities are written.

    The least of them that none exceeds; NaN and inf are passed over.
    """
    high = np.max(strength, initial=0, where=np.isfinite(strength))
    return 1 if high <= 1 else 255 if high <= 255 else 65535


def typed_scene(scene: dict[str, Any], ignore_index: int = -1) -> dict[str, Any]:
    """Give the arrays of a scene their dtypes, and labels where there are none.

    Points without a class get ``ignore_index``, points without an instance -1;
    ``strength`` becomes (N, 1), as features are.
    """
    for key, dtype in _DTYPES.items():
        if key in scene:
            scene[key] = np.ascontiguousarray(scene[key], dtype=dtype)
    if "strength" in scene:
        scene["strength"] = scene["strength"].reshape(len(scene["strength"]), -1)
    for key, missing in (("segment", ignore_index), ("instance", -1)):
        if key in scene:
            scene[key] = scene[key].reshape(-1).astype(np.int32)
        else:
            scene[key] = np.full(len(scene["coord"]), missing, np.int32)
    return scene


def load_arrays(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """Read a dictionary of arrays that ``torch.save`` wrote, running nothing in it.

    Args:
        path: the file.
        what: its role, for the message ("frame").

    Raises:
        UserError: the file is missing, damaged or holds something else.
    """
    import torch  # scenes alone are read without it

    try:
        with torch_allows(torch_globals()):
            saved = torch.load(path, map_location="cpu", weights_only=True)
        return {key: np.asarray(value) for key, value in dict(plain(saved)).items()}
    except Exception as error:  # torch names damage by many exceptions
        # torch gives its own reason after advice to trust the file
        lines = str(error).rpartition("WeightsUnpickler error: ")[2].splitlines()
        lines = [line for line in lines if line.strip() and "Weights only" not in line]
        reason = lines[0].strip() if lines else type(error).__name__
        raise UserError(f"{what} {path} cannot be read ({reason})") from None


def copy_scene(scene: dict[str, Any]) -> dict[str, Any]:
    """Return a scene whose arrays may be changed freely."""
    return {
        key: value.copy() if isinstance(value, np.ndarray) else value
        for key, value in scene.items()
    }


def check_folder(root: str | Path) -> list[tuple[str, str | None]]:
    """Check every scene below a folder.

    Args:
        root: a folder of splits, of scenes, or one scene.

    Returns:
        (path, problem) of every folder that holds arrays, or lies empty beside one
        that does; problem None if usable. Units other than metres are a problem: a
        scene is so wide and sparse that it can hardly be in metres, or, among three or
        more, a hundred times as wide or as narrow as the median.

    Raises:
        UserError: the folder does not exist, is a file or holds no arrays.
    """
    root = Path(root)
    if root.is_file():
        raise UserError(f"{root} is a file; name a folder of scenes")
    if not root.is_dir():
        raise UserError(f"data folder {root} does not exist")
    folders = {path.parent for path in root.rglob("*.npy")}
    if not folders:
        raise UserError(f"data folder {root} holds no .npy arrays")
    beside = {folder.parent for folder in folders if folder != root}
    folders |= {
        folder
        for parent in beside
        for folder in parent.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        # folders of folders hold scenes themselves
        if not any(child.is_dir() for child in folder.iterdir())
    }
    problems: dict[str, str | None] = {}
    widths = {}
    for folder in sorted(folders):
        try:
            scene = read_scene(folder, PER_POINT)
            problems[str(folder)] = scene_problem(scene)
            if problems[str(folder)] is None:
                coord = np.asarray(scene["coord"], np.float64)
                widths[str(folder)] = float(np.ptp(coord, axis=0).max())
                if hardly_metres(coord):
                    problems[str(folder)] = (
                        f"is {widths[str(folder)]:,.0f} wide and its points lie far "
                        "apart: write coord.npy in metres"
                    )
        except UserError as error:
            problems[str(folder)] = f"is damaged: {error}"
    median = float(np.median(list(widths.values()))) if len(widths) >= 3 else 0.0
    for folder, width in widths.items():
        if median and not _OTHER_UNITS > width / median > 1 / _OTHER_UNITS:
            problems[folder] = (
                f"is {width:g} wide where the median of the others is {median:g}: "
                "write coord.npy in metres"
            )
    return list(problems.items())
