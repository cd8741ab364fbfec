"""Pairs of partial views from simulated viewpoints."""

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS
from pointins_plugin.ops.partial_views import (
    CameraRange,
    ViewPairDraw,
    partial_view_pair,
)

from .multi_view import TrackedMultiViewGenerator


@TRANSFORMS.register_module()
class PartialViewPairGenerator(TrackedMultiViewGenerator):
    """Make two views of a scene, each what a camera in it would see.

    Turns any scan into PointContrast's data: no depth images are needed, only z up.
    Cameras stand in free space; what is behind something else is missing. Every pair
    overlaps by the lower bound at least. Entries are those of
    ``TrackedMultiViewGenerator`` with two global views (``global_coord``, ...,
    ``global_affine``), so that ``PointINS`` can train on them as well.

    Args:
        overlap: range of the share of the larger view that both views show; the upper
            bound gives way where a scene has no such views.
        distance: range of the distance between camera and target, as a share of the
            horizontal diagonal of the scene.
        elevation: range of the camera's height above its target, degrees.
        margin, headroom: how far cameras leave the bounding box sideways and upwards,
            as shares of that diagonal: more around a table than in a room.
        field_of_view: horizontal and vertical, degrees.
        min_size: points of a view at least (but not over a tenth of the scene).
        max_size: points of a view at most.
        tries: candidates for either camera.
        global_shared_transform: transforms of both views alike: colours only.
        global_transform: transforms of each view.
        view_keys, static_view_keys: as in ``TrackedMultiViewGenerator``.

    Randomness is NumPy's global generator, which the trainer seeds for each sample;
    everything is drawn (``ViewPairDraw``) before anything is computed.

    Source: PointContrast (ECCV 2020): pairs of frames with an overlap of 30 % or more,
    there of the smaller frame. The simulated cameras are ours.
    """

    def __init__(
        self,
        overlap: tuple[float, float] = (0.3, 0.9),
        distance: tuple[float, float] = (0.2, 0.6),
        elevation: tuple[float, float] = (-20.0, 60.0),
        margin: float = 0.0,
        headroom: float = 0.1,
        field_of_view: tuple[float, float] = (90.0, 70.0),
        min_size: int = 1000,
        max_size: int = 65536,
        tries: int = 8,
        global_shared_transform: list[dict] | None = None,
        global_transform: list[dict] | None = None,
        view_keys=("coord", "origin_coord", "color", "normal"),
        static_view_keys=("name",),
    ):
        super().__init__(
            local_view_num=0,
            global_shared_transform=global_shared_transform,
            global_transform=global_transform,
            view_keys=view_keys,
            static_view_keys=static_view_keys,
        )
        limits = (
            ("overlap", overlap, 0, 1),
            ("distance", distance, 1e-3, 100),
            ("elevation", elevation, -90, 90),
            ("field_of_view", sorted(field_of_view), 1, 170),
        )
        for name, (low, high), least, most in limits:
            if not least <= low <= high <= most:
                raise UserError(
                    f"config: PartialViewPairGenerator {name}=({low}, {high}) is no "
                    f"range within {least} to {most}"
                )
        if tries < 1 or min_size < 1 or max_size < min_size:
            raise UserError(
                "config: PartialViewPairGenerator needs tries >= 1 and "
                f"1 <= min_size <= max_size, found {tries}, {min_size}, {max_size}"
            )
        self.tries = tries
        self.where = CameraRange(tuple(distance), tuple(elevation), margin, headroom)
        self.pair = {
            "overlaps": tuple(overlap),
            "field_of_view": tuple(field_of_view),
            "min_size": min_size,
            "max_size": max_size,
        }

    def choose(self, coord: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the points (indices) of the two views, and no local ones."""
        draw = ViewPairDraw.sample(self.tries)
        return list(partial_view_pair(coord, draw, self.where, **self.pair)), []
