"""A spinning LiDAR in a street: beams, first hits, returns, noise."""

from dataclasses import dataclass

import numpy as np

from .ray_cast import Rays, cast, surface
from .street_layout import Street


@dataclass(frozen=True)
class Sensor:
    """A spinning LiDAR.

    Attributes:
        elevations: of the beams, degrees, ascending.
        columns: rays a turn of each beam.
        height: above the road, m.
        reach: m.
        noise: standard deviation of the range, m.
    """

    elevations: tuple[float, ...]
    columns: int
    height: float
    reach: float
    noise: float


# As the sensors of SemanticKITTI (HDL-64E) and nuScenes (HDL-32E).
SENSORS = {
    64: Sensor(
        elevations=(
            *np.linspace(-24.8, -8.83, 32).tolist(),
            *np.linspace(-8.33, 2.0, 32).tolist(),
        ),
        columns=2083,
        height=1.73,
        reach=80.0,
        noise=0.02,
    ),
    32: Sensor(
        elevations=tuple(np.linspace(-30.67, 10.67, 32).tolist()),
        columns=1085,
        height=1.84,
        reach=70.0,
        noise=0.02,
    ),
}


def spin(sensor: Sensor, rng: np.random.Generator) -> Rays:
    """Return the rays of one turn, row by row; beams wobble a little."""
    beams, columns = len(sensor.elevations), sensor.columns
    wobble = np.radians(0.02)
    nominal = np.radians(sensor.elevations)[:, None]
    shake = np.clip(rng.standard_normal((beams, columns)), -3, 3)
    elevation = nominal + wobble * shake
    cell = np.arange(columns) + rng.random((beams, 1))
    azimuth = cell * (2 * np.pi / columns)
    flat = np.cos(elevation)
    direction = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], -1
    )
    return Rays(
        direction=direction.reshape(-1, 3).astype(np.float32),
        counts=np.full(beams, columns),
        starts=np.arange(beams) * columns,
        low=nominal[:, 0] - 3 * wobble,
        high=nominal[:, 0] + 3 * wobble,
    )


def scan_street(
    street: Street,
    rng: np.random.Generator,
    beams: int = 64,
    noise: float = 1.0,
    dropout: float = 0.05,
    min_points: int = 5,
) -> dict[str, np.ndarray]:
    """Return one turn of a LiDAR, in its own frame.

    x is forward, y left, z up, the sensor at the origin. What is dark, far or grazed
    returns less often; leaves let rays in and some through, glass most of them.

    Args:
        rng: all randomness.
        beams: 64 or 32, see ``SENSORS``.
        noise: factor on the errors of range and intensity; 0 is a perfect scan.
        dropout: share of rays lost at random.
        min_points: a thing seen by fewer points loses its instance, not its class.

    Returns:
        coord (n, 3) m, strength (n, 1) in 0-1, segment and instance (n,), instance
        -1 on stuff.
    """
    sensor = SENSORS[beams]
    solids = street.solids
    view = np.array([*street.sensor, sensor.height])
    rays = spin(sensor, rng)
    # rays pass the windows of a car by chance: such solids are there or not, each time
    which, distance = cast(solids, view, rays, sensor.reach)
    passing = (which >= 0) & (rng.random(len(which)) >= solids.returns[which])
    if passing.any():
        behind, far = _through(solids, view, rays, passing, sensor.reach)
        which[passing], distance[passing] = behind, far
    seen = np.flatnonzero(which >= 0)
    which, distance = which[seen], distance[seen].astype(np.float64)
    ray = rays.direction[seen].astype(np.float64)
    coord, normal, _ = surface(solids, which, view + distance[:, None] * ray)
    facing = np.abs((normal * ray).sum(1))
    leaves = street.porous[which]
    facing[leaves] = 0.6
    reflectance = solids.color[which, 0] / 255
    echo = reflectance * facing * (30 / np.maximum(distance, 5)) ** 2
    kept = rng.random(len(which)) >= dropout
    if dropout > 0:
        kept &= echo > 0.004 * rng.exponential(1.0, len(which))
    which, coord, ray = which[kept], coord[kept], ray[kept]
    facing, reflectance, leaves = facing[kept], reflectance[kept], leaves[kept]
    error = noise * sensor.noise * rng.standard_normal(len(which))
    inside = noise * rng.exponential(0.25, len(which))
    error = np.where(leaves, np.minimum(inside, 0.8), error)
    coord = coord - view + error[:, None] * ray
    strength = reflectance * (0.35 + 0.65 * facing)
    strength += 0.03 * noise * rng.standard_normal(len(which))
    label, instance = street.label[which], street.instance[which].copy()
    size = np.bincount(instance[instance >= 0], minlength=1)
    small = (instance >= 0) & (size[np.maximum(instance, 0)] < min_points)
    instance[small] = -1
    ids = np.unique(instance[instance >= 0])
    instance = np.where(instance >= 0, np.searchsorted(ids, instance), -1)
    return {
        "coord": coord.astype(np.float32),
        "strength": np.clip(strength, 0, 1).astype(np.float32)[:, None],
        "segment": label.astype(np.int32),
        "instance": instance.astype(np.int32),
    }


def _through(solids, view, rays, passing, reach):
    """Return what rays meet behind what they passed: solids that return all rays."""
    opaque = np.flatnonzero(solids.returns >= 1)
    values = {name: getattr(solids, name)[opaque] for name in vars(solids)}
    which, distance = cast(type(solids)(**values), view, rays, reach)
    which = np.where(which >= 0, opaque[which], -1)
    return which[passing], distance[passing]
