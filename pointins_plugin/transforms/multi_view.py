"""Several views of a scene, each with the matrix that made it."""

import numpy as np
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS, Compose
from pointins_plugin.ops.affine import fit_affine
from pointins_plugin.ops.views import sample_views


@TRANSFORMS.register_module()
class TrackedMultiViewGenerator:
    """Make global and local views and carry each one's affine.

    As Pointcept's ``MultiViewGenerator`` (same parameters and entries), and besides
    ``global_affine`` (V, 4, 4) float64, origin to augmented frame, and
    ``local_affine``, which collate stacks to (B * V, 4, 4). ``TrackedAffine`` records
    the matrix; where a view's transforms moved it in another way (``CenterShift``,
    ``RandomRotate``, ...), the matrix is recovered by least squares from
    ``origin_coord`` and ``coord``.

    The scene is copied view by view, not as a whole, and the points of a view are in
    no particular order.

    Args:
        view_keys: per-point entries of a view; must hold ``coord`` and
            ``origin_coord``.
        static_view_keys: entries that transforms of a view may read.
        Others as in ``MultiViewGenerator``.
    """

    def __init__(
        self,
        global_view_num: int = 2,
        global_view_scale=(0.4, 1.0),
        local_view_num: int = 4,
        local_view_scale=(0.1, 0.4),
        global_shared_transform: list[dict] | None = None,
        global_transform: list[dict] | None = None,
        local_transform: list[dict] | None = None,
        max_size: int = 65536,
        center_height_scale=(0, 1),
        shared_global_view: bool = False,
        view_keys=("coord", "origin_coord", "color", "normal"),
        static_view_keys=("name",),
    ):
        if not {"coord", "origin_coord"} <= set(view_keys):
            raise UserError(
                "config: TrackedMultiViewGenerator needs coord and origin_coord in "
                'view_keys; make origin_coord by dict(type="Copy", '
                'keys_dict={"coord": "origin_coord"}) before it'
            )
        self.sampling = {
            "global_view_num": global_view_num,
            "global_view_scale": global_view_scale,
            "local_view_num": local_view_num,
            "local_view_scale": local_view_scale,
            "max_size": max_size,
            "center_height_scale": center_height_scale,
            "shared_global_view": shared_global_view,
        }
        self.shared = Compose(global_shared_transform)
        self.transforms = {
            "global": Compose(global_transform),
            "local": Compose(local_transform),
        }
        self.view_keys = tuple(view_keys)
        self.static_view_keys = tuple(static_view_keys)

    def __call__(self, data_dict: dict) -> dict:
        for key in self.view_keys:
            if key not in data_dict:
                raise UserError(
                    f"config: TrackedMultiViewGenerator asks for {key!r}, which scene "
                    f"{data_dict.get('name', '?')} does not have"
                )
        global_views, local_views = sample_views(data_dict["coord"], **self.sampling)
        seen = np.unique(np.concatenate(global_views))
        place = np.empty(len(data_dict["coord"]), dtype=np.int64)
        place[seen] = np.arange(len(seen))
        shared = self.shared(self._take(data_dict, seen))
        self._write(
            data_dict,
            "global",
            [self._take(shared, place[index]) for index in global_views],
        )
        if local_views:
            views = [self._take(data_dict, index) for index in local_views]
            self._write(data_dict, "local", views)
        return data_dict

    def _take(self, data_dict: dict, index: np.ndarray) -> dict:
        view = {key: data_dict[key][index] for key in self.view_keys}
        for key in self.static_view_keys:
            if key in data_dict:
                view[key] = data_dict[key]
        view["index_valid_keys"] = list(self.view_keys)
        return view

    def _write(self, data_dict: dict, kind: str, views: list[dict]) -> None:
        views = [self.transforms[kind](view) for view in views]
        for key in self.view_keys:
            data_dict[f"{kind}_{key}"] = np.concatenate([view[key] for view in views])
        sizes = [len(view["coord"]) for view in views]
        data_dict[f"{kind}_offset"] = np.cumsum(sizes)
        # A tensor, because ToTensor would round an array to float32.
        data_dict[f"{kind}_affine"] = torch.stack([view_affine(v) for v in views])


def view_affine(view: dict) -> torch.Tensor:
    """Return the matrix (4, 4) float64 that made a view, recorded or recovered."""
    if "affine" in view:
        return torch.from_numpy(np.asarray(view["affine"], dtype=np.float64))
    origin = torch.from_numpy(np.ascontiguousarray(view["origin_coord"]))
    coord = torch.from_numpy(np.ascontiguousarray(view["coord"]))
    return fit_affine(origin, coord, torch.zeros(len(coord), dtype=torch.long), 1)[0]
