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
        scene = data_dict.get("name", "?")
        for key in ("coord", "origin_coord"):
            if key not in data_dict:
                raise UserError(
                    f"config: TrackedMultiViewGenerator asks for {key!r}, which scene "
                    f"{scene} does not have"
                )
        coord = data_dict["coord"]
        global_views, local_views = sample_views(coord, **self.sampling)
        place = np.zeros(len(coord), dtype=np.int64)
        for index in global_views:
            place[index] = 1
        seen = np.flatnonzero(place)
        place[seen] = np.arange(len(seen))
        shared = self.shared(self._take(data_dict, seen))
        if not np.array_equal(shared["coord"], coord[seen]):
            raise UserError(
                "config: the global_shared_transform of TrackedMultiViewGenerator "
                "moved, dropped or reordered points; it may change colours, the rest "
                "belongs into global_transform"
            )
        views = [self._take(shared, place[index]) for index in global_views]
        self._write(data_dict, "global", views)
        if local_views:
            views = [self._take(data_dict, index) for index in local_views]
            self._write(data_dict, "local", views)
        return data_dict

    def _take(self, data_dict: dict, index: np.ndarray) -> dict:
        view = {key: data_dict[key][index] for key in self.view_keys if key in data_dict}
        for key in self.static_view_keys:
            if key in data_dict:
                view[key] = data_dict[key]
        view["index_valid_keys"] = list(self.view_keys)
        return view

    def _write(self, data_dict: dict, kind: str, views: list[dict]) -> None:
        views = [self.transforms[kind](view) for view in views]
        for key in self.view_keys:
            if key not in views[0]:
                raise UserError(
                    f"config: TrackedMultiViewGenerator asks for {key!r}, which a view "
                    f"of scene {data_dict.get('name', '?')} does not have"
                )
            data_dict[f"{kind}_{key}"] = np.concatenate([view[key] for view in views])
        sizes = [len(view["coord"]) for view in views]
        data_dict[f"{kind}_offset"] = np.cumsum(sizes)
        # A tensor, because ToTensor would round an array to float32.
        data_dict[f"{kind}_affine"] = torch.stack([view_affine(v) for v in views])


# A fit to this many points is as good as one to all.
_FIT_POINTS = 4096
# Share of the view's spread that jitter and elastic distortion may move points by.
_NOT_AFFINE = 0.1


def view_affine(view: dict) -> torch.Tensor:
    """Return the matrix (4, 4) float64 that made a view.

    The recorded ``affine`` if it explains where the points went; else, because
    transforms moved them without recording it, the map that is fitted to them.

    Args:
        view: ``origin_coord`` and ``coord`` (N, 3), and ``affine`` if recorded.

    Raises:
        UserError: no affine map explains where the points went.
    """
    step = max(1, len(view["coord"]) // _FIT_POINTS)
    origin = torch.from_numpy(np.ascontiguousarray(view["origin_coord"][::step])).double()
    coord = torch.from_numpy(np.ascontiguousarray(view["coord"][::step])).double()
    batch = torch.zeros(len(coord), dtype=torch.long)
    fitted = fit_affine(origin, coord, batch, 1)[0]
    error = affine_error(fitted, origin, coord)
    if "affine" in view:
        recorded = torch.from_numpy(np.asarray(view["affine"], dtype=np.float64))
        # Noise leaves as much beside the recorded map as beside the fitted one, or
        # little more where it is smooth; a step that was not recorded does not.
        spread = _spread(coord)
        if affine_error(recorded, origin, coord) <= 2 * error + _NOT_AFFINE * spread:
            return recorded
    if error > _NOT_AFFINE * _spread(coord):
        raise UserError(
            "config: transforms of TrackedMultiViewGenerator's views are not affine "
            f"(points are {error:.3g} m beside the best matrix); use TrackedAffine, or "
            "weaken those that distort"
        )
    return fitted


def affine_error(affine: torch.Tensor, origin: torch.Tensor, coord: torch.Tensor):
    """Return how far, root mean square, a matrix puts points beside their places."""
    moved = origin @ affine[:3, :3].T + affine[:3, 3]
    return float((moved - coord).square().sum(1).mean().sqrt())


def _spread(coord: torch.Tensor) -> float:
    return float((coord - coord.mean(0)).square().sum(1).mean().sqrt())
