"""First hits of rays on solids: exact, and without trying every pair."""

from dataclasses import dataclass

import numpy as np

from .solids import BOX, ELLIPSOID, FRUSTUM, Solids, footprints


@dataclass
class Rays:
    """Directions around one viewpoint, in rows of similar elevation.

    The azimuth of the rays of a row rises from 0; ray k of c lies in the k-th of c
    equal cells of the full turn.

    Attributes:
        direction: (n, 3) unit.
        counts: (rows,) rays in each row.
        starts: (rows,) first ray of each row.
        low, high: (rows,) elevations between which the rays of a row lie, radians,
            each ascending.
    """

    direction: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    low: np.ndarray
    high: np.ndarray


def ragged(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for groups of ``counts``, each member's group and place in it."""
    group = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    return group, place


def candidates(solids: Solids, view: np.ndarray, rays: Rays):
    """Return (solid, ray) of all pairs that may meet.

    A solid lies within an upright prism; the prism within a window of azimuth and
    elevation, and the window selects rays row by row. No pair that meets is left out.
    """
    prisms = footprints(solids)
    to = prisms.centre - view[:2]
    near = prisms.distance(view[:2])
    u = prisms.axis
    v = np.stack([-u[:, 1], u[:, 0]], 1)
    half = prisms.half + prisms.radius[:, None]
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    corners = to[:, None] + (
        signs[None, :, :1] * (half[:, 0, None] * u)[:, None]
        + signs[None, :, 1:] * (half[:, 1, None] * v)[:, None]
    )
    far = np.linalg.norm(corners, axis=2).max(1)
    low, high = prisms.low - view[2], prisms.high - view[2]
    lowest = np.arctan2(low, np.where(low < 0, near, far))
    highest = np.arctan2(high, np.where(high > 0, near, far))
    middle = np.arctan2(to[:, 1], to[:, 0])
    turned = np.arctan2(corners[..., 1], corners[..., 0]) - middle[:, None]
    turned = (turned + np.pi) % (2 * np.pi) - np.pi
    around = near <= 0
    # a disc's square may hold the viewpoint where the disc does not
    around |= turned.max(1) - turned.min(1) > np.pi
    begin = np.where(around, 0.0, middle + turned.min(1)) % (2 * np.pi)
    width = np.where(around, 2 * np.pi, turned.max(1) - turned.min(1))

    first = np.searchsorted(rays.high, lowest)
    last = np.searchsorted(rays.low, highest, side="right") - 1
    solid, place = ragged(np.maximum(last - first + 1, 0))
    row = first[solid] + place
    per_row = rays.counts[row]
    cell = per_row / (2 * np.pi)
    start = np.floor(begin[solid] * cell).astype(int)
    end = np.floor((begin + width)[solid] * cell).astype(int)
    pair, place = ragged(np.minimum(end - start + 1, per_row))
    ray = rays.starts[row[pair]] + (start[pair] + place) % per_row[pair]
    return solid[pair], ray


def _box(o, d):
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = [1 / np.where(np.abs(c) < 1e-12, np.float32(1e-12), c) for c in d]
    centre = [-a * b for a, b in zip(o, inverse, strict=True)]
    reach = [np.abs(b) for b in inverse]
    enter = np.maximum(centre[0] - reach[0], centre[1] - reach[1])
    enter = np.maximum(enter, centre[2] - reach[2])
    leave = np.minimum(centre[0] + reach[0], centre[1] + reach[1])
    leave = np.minimum(leave, centre[2] + reach[2])
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def _ellipsoid(o, d):
    a = d[0] ** 2 + d[1] ** 2 + d[2] ** 2
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - 1
    square = b * b - a * c
    t = (-b - np.sqrt(np.maximum(square, 0))) / a
    return np.where((square > 0) & (t > 0), t, np.inf)


def _frustum(o, d, lower, upper):
    middle, slope = (lower + upper) / 2, (upper - lower) / 2
    at = middle + slope * o[2]
    a = d[0] ** 2 + d[1] ** 2 - (slope * d[2]) ** 2
    b = o[0] * d[0] + o[1] * d[1] - slope * d[2] * at
    c = o[0] ** 2 + o[1] ** 2 - at**2
    a = np.where(np.abs(a) < 1e-12, np.float32(1e-12), a)
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0))
    best = np.full(len(a), np.inf, a.dtype)
    for t in ((-b - root) / a, (-b + root) / a):
        z = o[2] + t * d[2]
        good = (square > 0) & (t > 0) & (np.abs(z) <= 1) & (middle + slope * z >= 0)
        best = np.where(good & (t < best), t, best)
    end = -np.sign(d[2])
    t = (end - o[2]) / np.where(d[2] == 0, np.float32(1e-12), d[2])
    off = (o[0] + t * d[0]) ** 2 + (o[1] + t * d[1]) ** 2
    good = (t > 0) & (off <= (middle + slope * end) ** 2)
    return np.where(good & (t < best), t, best)


def cast(solids: Solids, view: np.ndarray, rays: Rays, far: float):
    """Return what each ray meets first.

    Args:
        view: (3,) where the rays start, outside all solids.
        far: reach of the rays, m.

    Returns:
        solid (n,), -1 where a ray meets nothing, and distance (n,) m.
    """
    to_unit = np.swapaxes(solids.rotation, 1, 2) / solids.half[:, :, None]
    origin = np.einsum("nij,nj->ni", to_unit, view - solids.centre).astype(np.float32)
    to_unit = to_unit.astype(np.float32)
    taper = solids.taper.astype(np.float32)
    solid, ray = candidates(solids, view, rays)
    columns = np.ascontiguousarray(rays.direction.T)
    distance = np.full(len(rays.direction), far, np.float32)
    hits = []
    kinds = solids.kind[solid]
    for kind in (BOX, FRUSTUM, ELLIPSOID):
        mine = np.flatnonzero(kinds == kind)
        s, r = solid[mine], ray[mine]
        world = [column[r] for column in columns]
        o = [origin[s, i] for i in range(3)]
        d = [
            to_unit[s, i, 0] * world[0]
            + to_unit[s, i, 1] * world[1]
            + to_unit[s, i, 2] * world[2]
            for i in range(3)
        ]
        if kind == BOX:
            t = _box(o, d)
        elif kind == ELLIPSOID:
            t = _ellipsoid(o, d)
        else:
            t = _frustum(o, d, taper[s, 0], taper[s, 1])
        met = t < far
        s, r, t = s[met], r[met], t[met]
        np.minimum.at(distance, r, t)
        hits.append((s, r, t))
    first = np.full(len(distance), -1)
    for s, r, t in hits:
        nearest = t <= distance[r]
        first[r[nearest]] = s[nearest]
    return first, distance


def surface(solids: Solids, which: np.ndarray, coord: np.ndarray):
    """Return points (n, 3) on the rounded surfaces, their normals and local places.

    Args:
        which: (n,) the solid each point lies on.
        coord: (n, 3) points on the sharp-edged surfaces, m.

    Returns:
        coord, outward unit normal and local coordinates in metres, each (n, 3).
    """
    rotation, half = solids.rotation[which], solids.half[which]
    local = np.einsum("nij,ni->nj", rotation, coord - solids.centre[which])
    unit = local / half
    kind = solids.kind[which]
    normal = unit.copy()  # an ellipsoid's
    box = kind == BOX
    face = np.abs(unit[box]).argmax(1)
    flat = np.zeros((len(face), 3))
    flat[np.arange(len(face)), face] = np.sign(unit[box][np.arange(len(face)), face])
    normal[box] = flat
    cone = kind == FRUSTUM
    taper = solids.taper[which[cone]]
    middle, slope = taper.mean(1), (taper[:, 1] - taper[:, 0]) / 2
    height = unit[cone, 2]
    side = unit[cone].copy()
    side[:, 2] = -slope * (middle + slope * height)
    cap = np.abs(height) > 1 - 1e-4
    side[cap] = 0
    side[cap, 2] = np.sign(height[cap])
    normal[cone] = side
    normal /= half

    radius = solids.rounding[which]
    curved = np.flatnonzero(box & (radius > 0))
    r, reach = radius[curved, None], half[curved]
    core = np.clip(local[curved], r - reach, reach - r)
    out = local[curved] - core
    length = np.linalg.norm(out, axis=1, keepdims=True)
    ok = length[:, 0] > 1e-9
    normal[curved[ok]] = out[ok] / length[ok]
    local[curved[ok]] = core[ok] + r[ok] * normal[curved[ok]]

    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    coord = np.einsum("nij,nj->ni", rotation, local) + solids.centre[which]
    return coord, np.einsum("nij,nj->ni", rotation, normal), local
