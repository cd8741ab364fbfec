"""Transforms that make several views of a scene."""

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.ops.views import sample_views

from ..registry import TRANSFORMS
from .base import Compose, entry, take_rows


def take_view(data_dict: dict, index: np.ndarray, keys, static_keys=()) -> dict:
    """Return a scene of the chosen points; static entries are shared."""
    view = {key: take_rows(data_dict[key], index) for key in keys if key in data_dict}
    view.update({key: data_dict[key] for key in static_keys if key in data_dict})
    if "index_valid_keys" in data_dict:
        view["index_valid_keys"] = list(data_dict["index_valid_keys"])
    return view


@TRANSFORMS.register_module()
class ContrastiveViewsGenerator:
    """Augment the scene twice: entries ``view1_<key>`` and ``view2_<key>``.

    Views know which of their arrays have one row a point (``index_valid_keys``), which
    in Pointcept they forget: there ``origin_coord`` is not sampled with the rest.
    """

    def __init__(
        self,
        view_keys=("coord", "color", "normal", "origin_coord"),
        view_trans_cfg: list[dict] | None = None,
    ):
        self.view_keys = view_keys
        self.view_trans = Compose(view_trans_cfg)

    def __call__(self, data_dict: dict) -> dict:
        for name in ("view1", "view2"):
            view = {
                key: entry(data_dict, key, "ContrastiveViewsGenerator").copy()
                for key in self.view_keys
            }
            if "index_valid_keys" in data_dict:
                view["index_valid_keys"] = list(data_dict["index_valid_keys"])
            for key, value in self.view_trans(view).items():
                data_dict[f"{name}_{key}"] = value
        return data_dict


@TRANSFORMS.register_module()
class MultiViewGenerator:
    """Make global and local views: ``global_<key>``, ``local_<key>`` and offsets.

    The points of a view are in no particular order.

    Args:
        global_view_num, local_view_num: views of either kind.
        global_view_scale, local_view_scale: range of the points of a view, as a share
            of what fits in ``max_size``.
        global_shared_transform: transforms of the scene before global views are cut.
        global_transform, local_transform: transforms of a view.
        max_size: most points of a view.
        enc2d_max_size, enc2d_scale: accepted; they concern scenes with images.
        center_height_scale: range of the first centre's height over the scene's.
        shared_global_view: all global views show the same points.
        view_keys: entries to cut, with ``"coord"``.
        static_view_keys: entries that transforms of views see as they are.
        if_frame_selected: must be False; it concerns scenes of several frames.

    Raises:
        UserError: the scene lacks an entry, or holds images.
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
        enc2d_max_size: int = 102400,
        enc2d_scale=(0.8, 1),
        center_height_scale=(0, 1),
        shared_global_view: bool = False,
        view_keys=("coord", "origin_coord", "color", "normal"),
        static_view_keys=("name", "img_num"),
        if_frame_selected: bool = False,
    ):
        if "coord" not in view_keys:
            raise ValueError(f"view_keys={view_keys!r} lacks 'coord'")
        if if_frame_selected:
            raise ValueError("views of single frames are made on Pointcept only")
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
        self.view_keys = view_keys
        self.static_view_keys = static_view_keys

    def __call__(self, data_dict: dict) -> dict:
        if "correspondence" in data_dict:
            raise UserError(
                "MultiViewGenerator: scenes with images are for Pointcept; use a data "
                "set of points"
            )
        chosen = dict(
            zip(
                ("global", "local"),
                sample_views(data_dict["coord"], **self.sampling),
                strict=True,
            )
        )
        arrays = {
            key: value.copy() if isinstance(value, np.ndarray) else value
            for key, value in data_dict.items()
            if key in (*self.view_keys, *self.static_view_keys, "index_valid_keys")
        }
        sources = {"global": self.shared(arrays), "local": data_dict}
        for kind, indices in chosen.items():
            if not indices:
                continue
            views = [
                self.transforms[kind](
                    take_view(
                        sources[kind], index, self.view_keys, self.static_view_keys
                    )
                )
                for index in indices
            ]
            for key in self.view_keys:
                data_dict[f"{kind}_{key}"] = np.concatenate(
                    [entry(view, key, "MultiViewGenerator") for view in views]
                )
            sizes = [len(view["coord"]) for view in views]
            data_dict[f"{kind}_offset"] = np.cumsum(sizes)
        return data_dict
