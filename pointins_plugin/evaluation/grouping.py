"""From predicted offsets to instances: planes, agreement of neighbours, grouping."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.label_free import offset_instances
from pointins_plugin.ops.ground import ground_points
from pointins_plugin.ops.planes import dominant_planes
from pointins_plugin.ops.proposals import GROUPINGS
from pointins_plugin.ops.smoothing import smooth_offsets


@dataclass(frozen=True)
class Grouping:
    """How the points of one cloud become instances; plain values, for JSON.

    Attributes:
        radius: distance of centres in one component, metres.
        bandwidth: of the mean shift, metres.
        min_size: fewest points of an instance.
        planes: keyword arguments of ``dominant_planes`` (metres and shares); None
            lets planes take part.
        ground: keyword arguments of ``ops.ground.ground_points`` (metres); outdoors,
            what takes no part in place of planes.
        smoothing: keyword arguments of ``smooth_offsets``, by which neighbours agree
            on a centre before centres are grouped; None groups them as predicted.
        method: ``"components"`` or ``"modes"``.
    """

    radius: float
    bandwidth: float
    min_size: int = 20
    planes: dict[str, Any] | None = field(default_factory=dict)
    smoothing: dict[str, Any] | None = None
    method: str = "components"
    ground: dict[str, Any] | None = None

    def __post_init__(self):
        if self.method not in GROUPINGS:
            raise UserError(
                f"grouping: method {self.method!r}; use one of {', '.join(GROUPINGS)}"
            )
        for name in ("radius", "bandwidth"):
            if not getattr(self, name) > 0:
                raise UserError(f"grouping: {name} must be above 0, in metres")

    def plane(self, coord: np.ndarray) -> np.ndarray:
        """Return (N,) bool, the points (N, 3) of planes or ground, always the same."""
        if self.ground is not None:
            return ground_points(coord, **self.ground)
        if self.planes is None or not len(coord):
            return np.zeros(len(coord), bool)
        return dominant_planes(
            torch.from_numpy(coord),
            torch.tensor([len(coord)]),
            generator=torch.Generator().manual_seed(0),
            **self.planes,
        ).numpy()

    def agree(
        self, coord: np.ndarray, shift: np.ndarray, plane: np.ndarray
    ) -> np.ndarray:
        """Return the offsets (N, 3) that are grouped: smoothed off the planes."""
        if self.smoothing is None:
            return shift
        return smooth_offsets(
            torch.from_numpy(coord),
            torch.from_numpy(shift),
            torch.tensor([len(coord)]),
            keep=torch.from_numpy(~plane),
            **self.smoothing,
        ).numpy()

    def instances(
        self, coord: np.ndarray, shift: np.ndarray, plane: np.ndarray
    ) -> np.ndarray:
        """Return (N,) the instance of every point by its centre, -1 for none."""
        return offset_instances(
            coord,
            shift,
            plane,
            self.method,
            self.radius,
            self.bandwidth,
            self.min_size,
        )
