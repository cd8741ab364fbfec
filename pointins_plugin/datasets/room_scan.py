"""A scanner in a room: rays from a few viewpoints, first hits, noise, thinning."""

from dataclasses import dataclass

import numpy as np

from .room_colors import shade, texture
from .room_layout import Room, inside
from .room_solids import BOX, ELLIPSOID, FRUSTUM, Solids, footprints

_LOW, _HIGH = np.radians(-86.0), np.radians(17.0)  # elevations the scanner covers
_FAR = 5.0  # m, no return beyond: the reach of a depth camera


@dataclass
class Rays:
    """Directions around one viewpoint, in rows of equal elevation.

    Attributes:
        direction: (n, 3) unit.
        counts: (rows,) rays in each row.
        starts: (rows,) first ray of each row.
        step: height of a row, radians.
    """

    direction: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    step: float


def spread_rays(rng: np.random.Generator, step: float) -> Rays:
    """Return rays of equal solid angle ``step ** 2``, jittered within their cells."""
    rows = int(np.ceil((_HIGH - _LOW) / step))
    elevation = _LOW + (np.arange(rows) + 0.5) * step
    counts = np.maximum(8, (2 * np.pi * np.cos(elevation) / step).astype(int))
    starts = np.cumsum(counts) - counts
    row, place = ragged(counts)
    azimuth = (place + rng.random(len(row))) * (2 * np.pi / counts)[row]
    height = elevation[row] + (rng.random(len(row)) - 0.5) * step
    flat = np.cos(height)
    direction = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(height)], 1
    )
    return Rays(direction.astype(np.float32), counts, starts, step)


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

    rows = len(rays.counts)
    first = np.clip(np.floor((lowest - _LOW) / rays.step), 0, rows).astype(int)
    last = np.clip(np.floor((highest - _LOW) / rays.step), -1, rows - 1).astype(int)
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


def cast(solids: Solids, view: np.ndarray, rays: Rays):
    """Return what each ray meets first.

    Args:
        view: (3,) where the rays start, outside all solids.

    Returns:
        solid (n,), -1 where a ray meets nothing, and distance (n,) m.
    """
    to_unit = np.swapaxes(solids.rotation, 1, 2) / solids.half[:, :, None]
    origin = np.einsum("nij,nj->ni", to_unit, view - solids.centre).astype(np.float32)
    to_unit = to_unit.astype(np.float32)
    taper = solids.taper.astype(np.float32)
    solid, ray = candidates(solids, view, rays)
    columns = np.ascontiguousarray(rays.direction.T)
    distance = np.full(len(rays.direction), _FAR, np.float32)
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
        met = t < _FAR
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


def viewpoints(rng: np.random.Generator, room: Room, count: int) -> np.ndarray:
    """Return places (count, 3) where someone could hold a scanner, far from each other.

    They are 1.2 to 1.8 m high and, where the room allows, 0.3 m from everything.
    """
    low, high = room.outline.min(0), room.outline.max(0)
    points = rng.uniform(low, high, (max(64, 16 * count), 2))
    points = points[inside(room.outline, points)]
    gap = np.array([room.occupied.distance(point).min() for point in points])
    free = (
        points[gap > 0.3]
        if (gap > 0.3).sum() >= count
        else points[gap.argsort()[-count:]]
    )
    chosen = [free[0]]
    while len(chosen) < count:
        away = np.min(
            [np.linalg.norm(free - point, axis=1) for point in chosen], axis=0
        )
        # far apart, but not always in the very corners
        chosen.append(free[(away * rng.uniform(0.6, 1, len(free))).argmax()])
    heights = rng.uniform(1.2, 1.8, count)
    return np.column_stack([np.array(chosen[:count]), heights])


def thin(coord: np.ndarray, voxel: float, order: np.ndarray) -> np.ndarray:
    """Return the index of one point a voxel: the first in ``order``."""
    cell = np.floor(coord[order] / voxel).astype(np.int64)
    cell -= cell.min(0)
    span = cell.max(0) + 1
    key = (cell[:, 0] * span[1] + cell[:, 1]) * span[2] + cell[:, 2]
    return order[np.unique(key, return_index=True)[1]]


def scan(
    room: Room,
    rng: np.random.Generator,
    num_viewpoints: int = 3,
    angular_step: float = 1.0,
    voxel: float = 0.025,
    noise: float = 1.0,
    dropout: float = 0.03,
    min_points: int = 10,
) -> dict[str, np.ndarray]:
    """Return a scan of a room: the surfaces seen from a few viewpoints.

    Every viewpoint is a full turn of rays of equal solid angle; what lies behind
    something is not seen, and density falls with the square of the distance. The range
    is off by a normal error of 1.5 mm + 0.8 mm/m^2 x range^2, as a depth camera's.

    Args:
        rng: all randomness.
        num_viewpoints: places the room is scanned from.
        angular_step: degrees between rays.
        voxel: edge of the voxels that keep one point each, m; 0 keeps all.
        noise: factor on the errors of range, normal and colour; 0 is a perfect scan.
        dropout: share of rays lost at random; grazing rays are lost more often.
        min_points: an object seen by fewer points is left out: nobody would label it.

    Returns:
        coord (n, 3) m, color (n, 3) 0-255, normal (n, 3) unit, facing the viewpoint
        that saw the point, segment, instance and viewpoint (n,), viewpoints (v, 3).
    """
    views = viewpoints(rng, room, num_viewpoints)
    solids = room.solids
    found = []
    for number, view in enumerate(views):
        rays = spread_rays(rng, np.radians(angular_step))
        which, distance = cast(solids, view, rays)
        seen = np.flatnonzero(which >= 0)
        seen = seen[rng.random(len(seen)) < (1 - dropout) * solids.returns[which[seen]]]
        which, distance = which[seen], distance[seen].astype(np.float64)
        ray = rays.direction[seen].astype(np.float64)
        coord, normal, local = surface(solids, which, view + distance[:, None] * ray)
        facing = -(normal * ray).sum(1)
        kept = facing > np.where(rng.random(len(facing)) < 0.7, 0.08, 0.02)
        if dropout == 0:
            kept = facing > 0
        found.append(
            (
                which[kept],
                coord[kept],
                normal[kept],
                local[kept],
                ray[kept],
                distance[kept],
                np.full(kept.sum(), number),
            )
        )
    which, coord, normal, local, ray, distance, viewpoint = (
        np.concatenate(column) for column in zip(*found, strict=True)
    )

    lamp = np.array([*room.outline.mean(0), room.height - 0.2])
    turn = rng.uniform(0, 2 * np.pi)
    daylight = np.array([0.8 * np.cos(turn), 0.8 * np.sin(turn), 0.6])
    exposure = 1 + noise * rng.normal(0, 0.025, (num_viewpoints, 3))

    sigma = noise * (0.0015 + 0.0008 * distance**2)
    coord = coord + (sigma * rng.standard_normal(len(coord)))[:, None] * ray
    order = rng.permutation(len(coord))
    if voxel > 0:
        order = thin(coord, voxel, order)
        order = rng.permutation(order)
    seen_as = room.instance[which[order]]
    size = np.bincount(seen_as[seen_as >= 0], minlength=room.instance.max() + 1)
    order = order[(seen_as < 0) | (np.append(size, 0)[seen_as] >= min_points)]
    which, coord, viewpoint = which[order], coord[order], viewpoint[order]
    normal, local, ray = normal[order], local[order], ray[order]

    albedo = solids.color[which]
    albedo = albedo * texture(solids.pattern[which], local, which)[:, None]
    color = shade(albedo, coord, normal, lamp, daylight) * exposure[viewpoint]
    color += noise * (
        rng.normal(0, 4, (len(color), 1)) + rng.normal(0, 2, (len(color), 3))
    )

    normal = normal + noise * rng.normal(0, 0.05, normal.shape)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    away = (normal * ray).sum(1)
    normal -= np.where(away > 0, 2 * away, 0)[:, None] * ray
    segment, instance = room.label[which], room.instance[which]
    ids = np.unique(instance[instance >= 0])
    consecutive = np.searchsorted(ids, instance)
    return {
        "coord": coord.astype(np.float32),
        "color": np.clip(color, 0, 255).astype(np.float32),
        "normal": normal.astype(np.float32),
        "segment": segment.astype(np.int32),
        "instance": np.where(instance >= 0, consecutive, -1).astype(np.int32),
        "viewpoint": viewpoint.astype(np.int32),
        "viewpoints": views.astype(np.float32),
    }
