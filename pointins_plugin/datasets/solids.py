"""Solids that rooms and streets are built of: boxes, frustums and ellipsoids as arrays.

A solid's local frame is centred, with ``half`` extents along its axes; dividing by
``half`` gives the unit solid: the cube [-1, 1]^3, the unit ball, or the frustum
between z = -1 and 1 whose larger radius is 1.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

BOX, FRUSTUM, ELLIPSOID = 0, 1, 2


def yaw_matrix(yaw: float) -> np.ndarray:
    """Return the rotation (3, 3) by ``yaw`` radians about z."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def tilt_matrix(tilt: float) -> np.ndarray:
    """Return the rotation (3, 3) by ``tilt`` radians about x: tops lean to -y."""
    c, s = math.cos(tilt), math.sin(tilt)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def align_z(direction: np.ndarray) -> np.ndarray:
    """Return a rotation (3, 3) whose third column is ``direction``, made unit."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


@dataclass
class Solids:
    """n solids.

    Attributes:
        kind: (n,) BOX, FRUSTUM or ELLIPSOID.
        centre: (n, 3) m.
        rotation: (n, 3, 3), columns are the local axes.
        half: (n, 3) half extents, m.
        rounding: (n,) radius of a box's edges, m.
        taper: (n, 2) a frustum's radii at its lower and upper end; the larger is 1.
        color: (n, 3) albedo, 0-255.
        pattern: (n,) texture, see ``room_colors``.
        returns: (n,) share of the rays that come back (glass lets them through).
    """

    kind: np.ndarray
    centre: np.ndarray
    rotation: np.ndarray
    half: np.ndarray
    rounding: np.ndarray
    taper: np.ndarray
    color: np.ndarray
    pattern: np.ndarray
    returns: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def moved(self, x: float, y: float, z: float, yaw: float) -> "Solids":
        """Return the solids turned by ``yaw`` about the origin, then shifted."""
        turn = yaw_matrix(yaw)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["centre"] = self.centre @ turn.T + (x, y, z)
        values["rotation"] = turn @ self.rotation
        return Solids(**values)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper corner (3,) of the axis-aligned bounding box."""
        reach = (np.abs(self.rotation) * self.half[:, None, :]).sum(2)
        return (self.centre - reach).min(0), (self.centre + reach).max(0)

    @staticmethod
    def joined(parts: list["Solids"]) -> "Solids":
        """Return all solids of several groups, in order."""
        return Solids(
            **{
                field.name: np.concatenate([getattr(p, field.name) for p in parts])
                for field in fields(Solids)
            }
        )


class Maker:
    """Collects the solids of one object."""

    def __init__(self):
        self._rows: list[tuple] = []

    def box(
        self,
        centre,
        size,
        color,
        rounding=0.0,
        yaw=0.0,
        tilt=0.0,
        pattern=0,
        returns=1.0,
    ) -> "Maker":
        """Add a box of full ``size`` (3,), tilted about its x axis, then turned."""
        rotation = yaw_matrix(yaw) @ tilt_matrix(tilt) if tilt else yaw_matrix(yaw)
        half = np.asarray(size, float) / 2
        rounding = min(rounding, half.min() * 0.999)
        self._add(
            BOX, centre, rotation, half, rounding, (1, 1), color, pattern, returns
        )
        return self

    def slab(self, low, high, color, **options) -> "Maker":
        """Add the axis-aligned box between two corners (3,)."""
        low, high = np.asarray(low, float), np.asarray(high, float)
        return self.box((low + high) / 2, high - low, color, **options)

    def pole(self, foot, head, radius, color, head_radius=None, pattern=0) -> "Maker":
        """Add a frustum from ``foot`` (3,) to ``head`` (3,)."""
        foot, head = np.asarray(foot, float), np.asarray(head, float)
        upper = radius if head_radius is None else head_radius
        widest = max(radius, upper)
        length = np.linalg.norm(head - foot)
        half = (widest, widest, length / 2)
        taper = (radius / widest, upper / widest)
        self._add(
            FRUSTUM,
            (foot + head) / 2,
            align_z(head - foot),
            half,
            0.0,
            taper,
            color,
            pattern,
            1.0,
        )
        return self

    def ball(self, centre, half, color, rotation=None, pattern=0) -> "Maker":
        """Add an ellipsoid of half axes ``half`` (3,)."""
        rotation = np.eye(3) if rotation is None else rotation
        self._add(ELLIPSOID, centre, rotation, half, 0.0, (1, 1), color, pattern, 1.0)
        return self

    def _add(self, *row) -> None:
        self._rows.append(row)

    def build(self) -> Solids:
        """Return what was collected."""
        kind, centre, rotation, half, rounding, taper, color, pattern, returns = zip(
            *self._rows, strict=True
        )
        return Solids(
            kind=np.array(kind),
            centre=np.array(centre, float),
            rotation=np.array(rotation, float),
            half=np.array(half, float),
            rounding=np.array(rounding, float),
            taper=np.array(taper, float),
            color=np.array(color, float),
            pattern=np.array(pattern),
            returns=np.array(returns, float),
        )


@dataclass
class Footprints:
    """Upright prisms around n solids: a rectangle grown by a disc, between two heights.

    Attributes:
        centre: (n, 2) m.
        axis: (n, 2) unit direction of the rectangle's first side.
        half: (n, 2) half sides, m; zero for a disc.
        radius: (n,) of the disc, m; zero for a rectangle.
        low, high: (n,) heights, m.
    """

    centre: np.ndarray
    axis: np.ndarray
    half: np.ndarray
    radius: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.low)

    @staticmethod
    def joined(parts: list["Footprints"]) -> "Footprints":
        """Return all footprints of several groups, in order."""
        return Footprints(
            **{
                field.name: np.concatenate([getattr(p, field.name) for p in parts])
                for field in fields(Footprints)
            }
        )

    def distance(self, point: np.ndarray) -> np.ndarray:
        """Return the horizontal distance (n,) from a point (2,), zero inside."""
        to = point - self.centre
        along = np.abs((to * self.axis).sum(1)) - self.half[:, 0]
        across = np.abs(to[:, 1] * self.axis[:, 0] - to[:, 0] * self.axis[:, 1])
        across -= self.half[:, 1]
        gap = np.hypot(np.maximum(along, 0), np.maximum(across, 0))
        return np.maximum(gap - self.radius, 0)


def footprints(solids: Solids) -> Footprints:
    """Return the upright prism around each solid; tight unless it is tilted."""
    rotation, half = solids.rotation, solids.half
    axis = rotation[:, :2, 0].copy()
    length = np.hypot(axis[:, 0], axis[:, 1])
    steep = length < 0.5
    axis[steep] = rotation[steep, :2, 1]
    length[steep] = np.hypot(axis[steep, 0], axis[steep, 1])
    axis /= length[:, None]
    other = np.stack([-axis[:, 1], axis[:, 0]], 1)
    along = np.abs((axis[:, :, None] * rotation[:, :2, :]).sum(1))
    across = np.abs((other[:, :, None] * rotation[:, :2, :]).sum(1))
    sides = np.stack([(along * half).sum(1), (across * half).sum(1)], 1)
    height = (np.abs(rotation[:, 2, :]) * half).sum(1)
    upright = np.abs(rotation[:, 2, 2]) > 1 - 1e-9
    round_ = (solids.kind != BOX) & upright & np.isclose(half[:, 0], half[:, 1])
    return Footprints(
        centre=solids.centre[:, :2],
        axis=axis,
        half=np.where(round_[:, None], 0.0, sides),
        radius=np.where(round_, half[:, 0], 0.0),
        low=solids.centre[:, 2] - height,
        high=solids.centre[:, 2] + height,
    )


def overlaps(a: Footprints, b: Footprints, slack: float = 0.001) -> np.ndarray:
    """Return (m, n): do the prisms of ``a`` and ``b`` share more than ``slack`` metres.

    By separating axes; between a disc and a corner it may say yes a little early,
    never no too early.
    """
    between = b.centre - a.centre[:, None]
    reach_a = np.hypot(a.half[:, 0], a.half[:, 1]) + a.radius
    reach_b = np.hypot(b.half[:, 0], b.half[:, 1]) + b.radius
    distance = np.hypot(between[..., 0], between[..., 1])
    hit = distance < reach_a[:, None] + reach_b - slack
    hit &= (a.low[:, None] + slack < b.high) & (b.low + slack < a.high[:, None])
    rows, cols = np.nonzero(hit)
    if not len(rows):
        return hit
    between = between[rows, cols]
    towards = between / np.maximum(distance[rows, cols], 1e-12)[:, None]
    first, second = a.axis[rows], b.axis[cols]
    apart = np.zeros(len(rows), bool)
    for direction in (first, _left(first), second, _left(second), towards):
        gap = np.abs(_dot(between, direction))
        for prisms, index, axis in ((a, rows, first), (b, cols, second)):
            gap -= prisms.half[index, 0] * np.abs(_dot(direction, axis))
            gap -= prisms.half[index, 1] * np.abs(_dot(direction, _left(axis)))
            gap -= prisms.radius[index]
        apart |= gap > -slack
    hit[rows, cols] = ~apart
    return hit


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1]


def _left(a: np.ndarray) -> np.ndarray:
    return np.stack([-a[:, 1], a[:, 0]], 1)
