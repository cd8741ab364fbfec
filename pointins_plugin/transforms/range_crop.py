"""Crop of a LiDAR scan by range."""

from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS, index_operator


@TRANSFORMS.register_module()
class RangeCrop:
    """Keep the points whose horizontal distance from a centre is in a range.

    Returns from the sensor's own car lie under the lower bound, and beyond the upper
    one rings are too far apart to show what a thing is.

    Args:
        near: metres.
        far: metres.
        height: (low, high) of z, metres; None for no limit.
        center: (x, y) of the sensor, metres: (.94, 0) in nuScenes' vehicle frame,
            whose origin is under the rear axle.

    Raises:
        UserError: ranges that are empty, or a scan that has no point in them.
    """

    def __init__(
        self,
        near: float = 0.0,
        far: float = 50.0,
        height: tuple[float, float] | None = None,
        center: tuple[float, float] = (0.0, 0.0),
    ):
        if not 0 <= near < far or (height is not None and not height[0] < height[1]):
            raise UserError(
                f"config: RangeCrop from {near} to {far} m, height {height}, keeps "
                "nothing; give 0 <= near < far and low < high"
            )
        if len(center) != 2 or not np.isfinite(center).all():
            raise UserError(
                f"config: RangeCrop center={center}; give (x, y) of the sensor, metres"
            )
        self.near, self.far, self.height = near, far, height
        self.center = np.asarray(center, np.float64)

    def __call__(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        coord = data_dict["coord"]
        square = np.square(coord[:, :2].astype(np.float64) - self.center).sum(1)
        kept = (square >= self.near**2) & (square < self.far**2)
        if self.height is not None:
            kept &= (coord[:, 2] >= self.height[0]) & (coord[:, 2] < self.height[1])
        index = np.flatnonzero(kept)
        if not len(index):
            raise UserError(
                f"scene {data_dict.get('name', '?')} has no point between {self.near} "
                f"and {self.far} m of the sensor; widen RangeCrop"
            )
        return index_operator(data_dict, index)
