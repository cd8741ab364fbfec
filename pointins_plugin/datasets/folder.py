"""Any folder of scenes: checked, completed and kept in memory."""

from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, DefaultDataset, get_root_logger
from pointins_plugin.ops.normals import estimate_normals

_PER_POINT = ("color", "normal", "strength", "segment", "instance")


def scene_problem(scene: dict[str, Any]) -> str | None:
    """Return in one line why a scene cannot be used, or None.

    Args:
        scene: arrays by name, as read from its folder.
    """
    coord = scene.get("coord")
    if coord is None:
        return "has no coord.npy"
    if coord.ndim != 2 or coord.shape[1] != 3:
        return f"coord.npy has shape {coord.shape}, not (N, 3)"
    if len(coord) < 2:
        return f"has {len(coord)} point{'s' * (len(coord) != 1)}, at least 2 are needed"
    for key in _PER_POINT:
        if key in scene and len(scene[key]) != len(coord):
            return f"{key}.npy has {len(scene[key])} rows, but coord.npy {len(coord)}"
    for key in ("coord", "color", "normal", "strength"):
        if key in scene and np.issubdtype(scene[key].dtype, np.floating):
            bad = ~np.isfinite(scene[key]).reshape(len(coord), -1).all(1)
            if bad.any():
                return f"{key}.npy has {bad.sum()} rows with NaN or inf"
    if np.ptp(coord, axis=0).max() == 0:
        return f"all {len(coord)} points lie on one place"
    if "color" in scene:
        color = scene["color"]
        if color.ndim != 2 or color.shape[1] < 3:
            return f"color.npy has shape {color.shape}, not (N, 3)"
        if color.min() < 0 or color.max() > 255:
            return (
                f"color.npy ranges from {color.min():g} to {color.max():g}; write "
                "0-255 or 0-1"
            )
    return None


def color_range(color: np.ndarray) -> str:
    """Return ``"0-1"`` or ``"0-255"``, the range colours are written in.

    Integers are 0-255. Floats are 0-1 if none exceeds one (an all-black scene reads
    alike in both).
    """
    if np.issubdtype(color.dtype, np.floating) and color.max(initial=0) <= 1:
        return "0-1"
    return "0-255"


@DATASETS.register_module()
class FolderDataset(DefaultDataset):
    """The default folder layout for data of one's own.

    Beyond ``DefaultDataset``: every scene is checked when it is read, colours in 0-1
    or 0-255 are told apart (and said), missing normals are estimated from the 16
    nearest points, missing colours are mid-grey, and scenes stay in memory.

    Args:
        skip_bad: leave out scenes that cannot be used, naming each, instead of
            stopping at the first. They are found when the dataset is built.
        normal_neighbours: points a normal is estimated from.
        viewpoint: (x, y, z) that estimated normals face; None faces them up.
        cache: as in ``DefaultDataset``, on by default.
        Others as in ``DefaultDataset``.

    Raises:
        UserError: a scene cannot be used: its name and what is wrong.
    """

    def __init__(
        self,
        split: str | list[str] = "train",
        data_root: str = "data/dataset",
        transform: list[dict] | None = None,
        test_mode: bool = False,
        test_cfg: dict | None = None,
        cache: bool = True,
        ignore_index: int = -1,
        loop: int = 1,
        skip_bad: bool = False,
        normal_neighbours: int = 16,
        viewpoint: tuple[float, float, float] | None = None,
    ):
        self.skip_bad = skip_bad
        self.normal_neighbours = normal_neighbours
        self.viewpoint = viewpoint
        self._said: set[str] = set()
        super().__init__(
            split=split,
            data_root=data_root,
            transform=transform,
            test_mode=test_mode,
            test_cfg=test_cfg,
            cache=cache,
            ignore_index=ignore_index,
            loop=loop,
        )

    def get_data_list(self) -> list[str]:
        scenes = super().get_data_list()
        if not self.skip_bad:
            return scenes
        good = []
        for path in scenes:
            try:
                self.load_scene(path)
            except UserError as error:
                get_root_logger().warning(f"Skipped: {error}")
            else:
                good.append(path)
        if not good:
            raise UserError(f"data {self.describe()}: every scene was skipped")
        return good

    def load_scene(self, path: str) -> dict[str, Any]:
        scene = super().load_scene(path)
        problem = scene_problem(scene)
        if problem:
            raise UserError(
                f"scene {path} {problem}; mend it, or set skip_bad=True to leave such "
                "scenes out"
            )
        return scene

    def convert(self, scene: dict[str, Any]) -> dict[str, Any]:
        coord = scene["coord"]
        if "color" in scene:
            written = color_range(scene["color"])
            self._say(f"colours are {written}")
            scene["color"] = scene["color"][:, :3].astype(np.float32)
            if written == "0-1":
                scene["color"] *= 255
        else:
            self._say("there are no colours: all points are grey")
            scene["color"] = np.full((len(coord), 3), 127.5, np.float32)
        if "normal" not in scene:
            self._say("there are no normals: they are estimated")
            scene["normal"] = estimate_normals(
                coord, self.normal_neighbours, self.viewpoint
            )
        return super().convert(scene)

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            get_root_logger().info(f"{self.describe()}: {what}")


def check_folder(root: str | Path) -> list[tuple[str, str | None]]:
    """Check every scene below a folder.

    Args:
        root: a folder of splits, of scenes, or one scene.

    Returns:
        (path, problem) of every folder that holds arrays, problem None if usable.

    Raises:
        UserError: the folder does not exist or holds no arrays.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"data folder {root} does not exist")
    folders = sorted({path.parent for path in root.rglob("*.npy")})
    if not folders:
        raise UserError(f"data folder {root} holds no .npy arrays")
    results = []
    for folder in folders:
        scene, problem = {}, None
        for name in ("coord", *_PER_POINT):
            file = folder / f"{name}.npy"
            if file.is_file():
                try:
                    scene[name] = np.load(file, allow_pickle=False)
                except (OSError, ValueError) as error:
                    problem = (
                        f"{name}.npy cannot be read ({str(error).splitlines()[0]})"
                    )
        results.append((str(folder), problem or scene_problem(scene)))
    return results
