"""Several views of a scene, each with the matrix that made it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS, Compose
from pointins_plugin.ops.affine import fit_affine
from pointins_plugin.ops.views import sample_views

from .tracked_affine import transform_points


@TRANSFORMS.register_module()
class TrackedMultiViewGenerator:
    """Make global and local views and carry each one's affine.

    As Pointcept's ``MultiViewGenerator`` (same parameters and entries), and besides
    ``global_affine`` (V, 4, 4) float64, origin to augmented frame, and
    ``local_affine``, which collate stacks to (B * V, 4, 4). ``TrackedAffine`` records
    its matrix; those of other affine transforms (``CenterShift``, ``RandomRotate``,
    ...) are found by watching the points.

    The scene is copied view by view, not as a whole; the shared transform sees the
    points of any global view, and may change their colours only; the points of a view
    are in no particular order.

    Args:
        view_keys: per-point entries of a view, from the scene or from the view's
            transforms; must hold ``coord`` and ``origin_coord``.
        static_view_keys: entries that transforms of a view may read.
        even_range: for LiDAR scans: width of rings around the z axis, metres,
            that the centres of views are drawn from alike, near and far.
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
        even_range: float | None = None,
    ):
        if not {"coord", "origin_coord"} <= set(view_keys):
            raise UserError(
                f"config: {type(self).__name__} needs coord and origin_coord in "
                'view_keys; make origin_coord by dict(type="Copy", '
                'keys_dict={"coord": "origin_coord"}) before it'
            )
        if even_range is not None and not even_range > 0:
            raise UserError(
                f"config: {type(self).__name__} even_range={even_range}; give metres "
                "above 0, or None"
            )
        self.sampling = {
            "global_view_num": global_view_num,
            "global_view_scale": global_view_scale,
            "local_view_num": local_view_num,
            "local_view_scale": local_view_scale,
            "max_size": max_size,
            "center_height_scale": center_height_scale,
            "shared_global_view": shared_global_view,
            "even_range": even_range,
        }
        self.shared = Compose(global_shared_transform)
        self.transforms = {
            "global": Compose(global_transform).transforms,
            "local": Compose(local_transform).transforms,
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
        for key in self.view_keys:
            if key in data_dict and len(data_dict[key]) != len(coord):
                raise UserError(
                    "config: TrackedMultiViewGenerator finds "
                    f"{len(data_dict[key])} rows of {key!r} for {len(coord)} points in "
                    f"scene {scene}; move the Copy behind what samples points, or name "
                    "the key in index_valid_keys"
                )
        global_views, local_views = self.choose(coord)
        place = np.zeros(len(coord), dtype=np.int64)
        for index in global_views:
            place[index] = 1
        seen = np.flatnonzero(place)
        place[seen] = np.arange(len(seen))
        before, _ = watched_step(
            data_dict["origin_coord"], coord, "what precedes TrackedMultiViewGenerator"
        )
        shared = self.shared(self._take(data_dict, seen))
        if not np.array_equal(shared["coord"], coord[seen]):
            raise UserError(
                "config: the global_shared_transform of TrackedMultiViewGenerator "
                "moved, dropped or reordered points; it may change colours, the rest "
                "belongs into global_transform"
            )
        views = [self._take(shared, place[index]) for index in global_views]
        self._write(data_dict, "global", views, before)
        if local_views:
            views = [self._take(data_dict, index) for index in local_views]
            self._write(data_dict, "local", views, before)
        return data_dict

    def choose(self, coord: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the points (indices) of each global and of each local view."""
        return sample_views(coord, **self.sampling)

    def _take(self, data_dict: dict, index: np.ndarray) -> dict:
        view = {
            key: data_dict[key].take(index, axis=0)
            for key in self.view_keys
            if key in data_dict
        }
        for key in self.static_view_keys:
            if key in data_dict:
                view[key] = data_dict[key]
        view["index_valid_keys"] = [key for key in self.view_keys if key in view]
        return view

    def _write(
        self, data_dict: dict, kind: str, views: list[dict], before: np.ndarray
    ) -> None:
        transforms = self.transforms[kind]
        views = [apply_tracked(transforms, view, before) for view in views]
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
        data_dict[f"{kind}_affine"] = torch.from_numpy(
            np.stack([view["affine"] for view in views])
        )


# Rows of a view that are watched: an exact affine map needs few.
_WATCHED = 512
# Rounding of float32 coordinates, as a share of their magnitude.
_EXACT = 1e-5
# Share of a view's spread that jitter and elastic distortion may move points by.
_DISTORTED = 0.3
_MANY = 200
_ROW = "view_row"


def apply_tracked(
    transforms: Sequence[Callable], view: dict, affine: np.ndarray
) -> dict:
    """Apply transforms to a view and write as ``affine`` what they did together.

    A step that records its own matrix is believed. Of any other, the points before
    and after are compared: where an exact affine map tells where all went
    (``CenterShift``, ``RandomRotate``, ``RandomScale``, ``RandomFlip``, ...) it joins
    the record, also if the step dropped or reordered points; jitter and elastic
    distortion stay beside it.

    Args:
        transforms: what to apply, in order.
        view: a scene with ``coord`` and ``index_valid_keys``.
        affine: (4, 4) float64, what was done before.

    Raises:
        UserError: a step distorts the view, or loses track of its points.
    """
    view[_ROW] = np.arange(len(view["coord"]))
    view["index_valid_keys"] = [*view["index_valid_keys"], _ROW]
    view["affine"] = affine
    for transform in transforms:
        rows, coord, affine = view[_ROW], view["coord"].copy(), view["affine"]
        view = transform(view)
        name = type(transform).__name__
        if len(view.get(_ROW, ())) != len(view["coord"]):
            raise UserError(
                f"config: {name} changes the points of a view but not the entries of "
                "index_valid_keys, so its matrix is unknown; leave it out of "
                "TrackedMultiViewGenerator's transforms"
            )
        if view["affine"] is affine and len(view["coord"]):
            if view[_ROW] is not rows:  # some were dropped, or all reordered
                place = np.empty(rows.max() + 1, dtype=np.int64)
                place[rows] = np.arange(len(rows))
                coord = coord[place[view[_ROW]]]
            step, exact = watched_step(coord, view["coord"], name)
            if exact:
                view["affine"] = step @ affine
    del view[_ROW]
    return view


def watched_step(
    before: np.ndarray, after: np.ndarray, name: str
) -> tuple[np.ndarray, bool]:
    """Find the affine map that moved points.

    Args:
        before, after: (N, 3) of the same points.
        name: of what moved them, for the message.

    Returns:
        (4, 4) float64, and whether it is exact up to rounding.

    Raises:
        UserError: the points moved, but in no affine way.
    """
    stride = max(1, -(-len(before) // _WATCHED))
    before, after = before[::stride], after[::stride]
    if np.array_equal(before, after):
        return np.eye(4), True
    source, target = before.astype(np.float64), after.astype(np.float64)
    fitted = _fit(source, target)
    error = _root_mean_square(transform_points(fitted, source) - target)
    if error <= _EXACT * max(np.abs(before).max(), np.abs(after).max()):
        return fitted, True
    spread = _root_mean_square(after - after.mean(0))
    # Jitter is as large as the whole of a view that shows very few points.
    if error > _DISTORTED * spread and len(before) >= _MANY:
        raise UserError(
            f"config: {name} moves points {error:.3g} m beside the nearest affine map "
            f"where a view is {spread:.3g} m wide; weaken it or leave it out of the "
            "transforms of TrackedMultiViewGenerator"
        )
    return fitted, False


def _fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the affine map (4, 4) that carries points (N, 3) to others best."""
    mean = source.mean(0)
    solved, _, rank, _ = np.linalg.lstsq(source - mean, target - target.mean(0))
    if rank < 3:  # a wall, a line, a point: what it does not tell must be completed
        batch = torch.zeros(len(source), dtype=torch.long)
        pair = torch.from_numpy(source), torch.from_numpy(target)
        return fit_affine(*pair, batch, 1)[0].numpy()
    fitted = np.eye(4)
    fitted[:3, :3] = solved.T
    fitted[:3, 3] = target.mean(0) - solved.T @ mean
    return fitted


def _root_mean_square(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.square(vectors).sum(1).mean()))
