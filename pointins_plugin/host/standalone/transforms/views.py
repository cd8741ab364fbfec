"""Transforms that make several views of a scene."""

import numpy as np

from pointins_plugin.ops.views import sample_views

from ..registry import TRANSFORMS
from .base import Compose


def take_view(data_dict: dict, index: np.ndarray, keys, static_keys=()) -> dict:
    """Return a scene of the chosen points; static entries are shared."""
    view = {key: data_dict[key][index] for key in keys if key in data_dict}
    view.update({key: data_dict[key] for key in static_keys if key in data_dict})
    if "index_valid_keys" in data_dict:
        view["index_valid_keys"] = list(data_dict["index_valid_keys"])
    return view


@TRANSFORMS.register_module()
class ContrastiveViewsGenerator:
    """Augment the scene twice: entries ``view1_<key>`` and ``view2_<key>``."""

    def __init__(
        self,
        view_keys=("coord", "color", "normal", "origin_coord"),
        view_trans_cfg: list[dict] | None = None,
    ):
        self.view_keys = view_keys
        self.view_trans = Compose(view_trans_cfg)

    def __call__(self, data_dict: dict) -> dict:
        for name in ("view1", "view2"):
            view = {key: data_dict[key].copy() for key in self.view_keys}
            for key, value in self.view_trans(view).items():
                data_dict[f"{name}_{key}"] = value
        return data_dict


@TRANSFORMS.register_module()
class MultiViewGenerator:
    """Make global and local views: ``global_<key>``, ``local_<key>`` and offsets.

    The parameters are Pointcept's; the points of a view are in no particular order.
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
                data_dict[f"{kind}_{key}"] = np.concatenate([v[key] for v in views])
            sizes = [len(view["coord"]) for view in views]
            data_dict[f"{kind}_offset"] = np.cumsum(sizes)
        return data_dict
