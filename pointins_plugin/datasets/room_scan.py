"""A scanner in a room: rays from a few viewpoints, first hits, noise, thinning."""

import numpy as np

from .ray_cast import Rays, cast, ragged, surface
from .room_colors import shade, texture
from .room_layout import Room, inside

_LOW, _HIGH = np.radians(-86.0), np.radians(17.0)  # elevations the scanner covers
_FAR = 5.0  # m, no return beyond: the reach of a depth camera


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
    low = _LOW + np.arange(rows) * step
    return Rays(direction.astype(np.float32), counts, starts, low, low + step)


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
        which, distance = cast(solids, view, rays, _FAR)
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
