"""Any folder of scenes: checked, completed and kept in memory."""

from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, DefaultDataset, get_root_logger
from pointins_plugin.ops.normals import estimate_normals
from pointins_plugin.scenes import (
    color_range,
    copy_scene,
    near_origin,
    read_scene,
    scene_folders,
    scene_problem,
    strength_range,
    typed_scene,
)


@DATASETS.register_module()
class FolderDataset(DefaultDataset):
    """The default folder layout for data of one's own.

    Beyond ``DefaultDataset``: colours in 0-1 or 0-255 are told apart, missing normals
    are estimated from the nearest points, missing colours are mid-grey, intensities
    of 8 or 16 bits become 0-1, map coordinates are moved to the origin, instances
    without classes are of class 0 (each is logged once), and scenes stay in memory. On
    either host every scene is checked when it is read.

    Args:
        skip_bad: leave out scenes that cannot be used, naming each, instead of
            stopping at the first. They are found when the dataset is built.
        normal_neighbours: points a normal is estimated from.
        viewpoint: (x, y, z) that estimated normals face; None faces them up.
        cache: keep scenes in memory (in each worker), on by default.
        Others as in ``DefaultDataset``.

    Raises:
        UserError: a scene cannot be used: its name and what is wrong; or ``viewpoint``
            is no place.
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
        if viewpoint is not None and not _is_place(viewpoint):
            raise UserError(
                f"config: FolderDataset viewpoint={viewpoint!r}; give (x, y, z) in "
                "metres, or None"
            )
        self.skip_bad = skip_bad
        self.normal_neighbours = normal_neighbours
        self.viewpoint = viewpoint
        self.keep = cache
        self._kept: dict[str, dict[str, Any]] = {}
        self._said: set[str] = set()
        super().__init__(
            split=split,
            data_root=data_root,
            transform=transform,
            test_mode=test_mode,
            test_cfg=test_cfg,
            cache=False,  # ours is the same on both hosts
            ignore_index=ignore_index,
            loop=loop,
        )

    def get_data_list(self) -> list[str]:
        """Return the folders of the scenes, the unusable ones left out if asked.

        Raises:
            UserError: no folder, no scene in it, or none that can be used.
        """
        scenes = scene_folders(
            self.data_root,
            self.split,
            "put one folder of .npy arrays (coord, color, ...) a scene there, or set "
            "data_root of the data set (-o data.train.data_root=...) to where they are",
        )
        if not self.skip_bad:
            return scenes
        good = []
        for path in scenes:
            try:
                self._read(path)
            except UserError as error:
                get_root_logger().warning(f"Skipped: {error}")
            else:
                good.append(path)
        if not good:
            raise UserError(
                f"data {self.data_root} ({self.split}): every scene was skipped; "
                "`pointins check-data` lists what is wrong"
            )
        return good

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scene, to change freely."""
        path = self.data_list[idx % len(self.data_list)]
        scene = self._kept.get(path)
        if scene is None:
            scene = self._complete(self._read(path))
            if self.keep:
                self._kept[path] = scene
        data_dict = copy_scene(scene)
        data_dict["name"] = self.get_data_name(idx)
        data_dict["split"] = self.get_split_name(idx)
        return data_dict

    def _read(self, path: str) -> dict[str, Any]:
        scene = read_scene(path, self.VALID_ASSETS)
        problem = scene_problem(scene)
        if problem:
            raise UserError(
                f"scene {path} {problem}; mend it, or set skip_bad=True to leave such "
                "scenes out"
            )
        return scene

    def _complete(self, scene: dict[str, Any]) -> dict[str, Any]:
        coord, corner = near_origin(scene["coord"])
        scene["coord"], viewpoint = coord, self.viewpoint
        if corner.any():
            self._say("coordinates are far from the origin: each scene is moved there")
            viewpoint = None if viewpoint is None else np.asarray(viewpoint) - corner
        if "color" in scene:
            written = color_range(scene["color"])
            self._say(f"colours are {written}")
            scene["color"] = scene["color"][:, :3].astype(np.float32)
            if written == "0-1":
                scene["color"] *= 255
        else:
            self._say("there are no colours: all points are grey")
            scene["color"] = np.full((len(coord), 3), 127.5, np.float32)
        if "strength" in scene:
            high = strength_range(scene["strength"])
            self._say(f"intensities are 0-{high}")
            scene["strength"] = scene["strength"].astype(np.float32) / high
        if "normal" not in scene:
            self._say("there are no normals: they are estimated")
            scene["normal"] = estimate_normals(coord, self.normal_neighbours, viewpoint)
        if "instance" in scene and "segment" not in scene:
            self._say("instances have no classes: all are of class 0")
            inside = scene["instance"].reshape(-1) >= 0
            scene["segment"] = np.where(inside, 0, self.ignore_index)
        return typed_scene(scene, self.ignore_index)

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            get_root_logger().info(f"{self.data_root} ({self.split}): {what}")


def _is_place(value: Any) -> bool:
    try:
        place = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return False
    return place.shape == (3,) and bool(np.isfinite(place).all())
