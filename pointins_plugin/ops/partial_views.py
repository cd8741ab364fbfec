"""What a camera in a scene would see of its points, and pairs of such views."""

from dataclasses import dataclass

import numpy as np

from .views import nearest_points

# Cells along the longest side of the grid that tells free space from occupied: as many
# as leave no holes in surfaces, which takes some points a cell.
_CELLS = (128, 16)
_POINTS = 6
# Pixels along the longer side of the finest depth buffer, at most.
_PIXELS = 2048
# Halvings of the way from the second camera to the first.
_HALVINGS = 5


@dataclass(frozen=True)
class Occupancy:
    """Which cells of a scene hold points.

    Attributes:
        low: (3,) corner of the grid, metres.
        cell: side of a cell, metres.
        filled: (X, Y, Z) bool.
        spacing: distance of neighbouring points on surfaces, metres.
    """

    low: np.ndarray
    cell: float
    filled: np.ndarray
    spacing: float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without roll (the z axis points up).

    Attributes:
        position: (3,) metres.
        target: (3,) the point in the middle of the picture, metres.
    """

    position: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class CameraRange:
    """Where cameras stand.

    Attributes:
        distance: range of the distance from the target, as a share of the horizontal
            diagonal of the scene's bounding box. Obstacles may bring it nearer, down
            to half the lower bound.
        elevation: range of the camera's height above the target, degrees.
        margin: how far cameras leave the bounding box sideways, as a share of that
            diagonal: 0 in rooms, more around a table.
        headroom: how far they leave it upwards, likewise.
    """

    distance: tuple[float, float] = (0.2, 0.6)
    elevation: tuple[float, float] = (-20.0, 60.0)
    margin: float = 0.0
    headroom: float = 0.1


def occupancy(coord: np.ndarray) -> Occupancy:
    """Find the cells that hold points, and how densely surfaces are sampled.

    Cells are small, yet so large that surfaces have no holes. A surface of area A
    fills A / cell^2 of them and holds A / spacing^2 points.

    Args:
        coord: (N, 3) metres, at least one.
    """
    low = coord.min(0).astype(np.float64)
    extent = max(float((coord.max(0) - low).max()), 1e-6)
    cell = extent / _CELLS[0]
    while True:
        index = ((coord - low) / cell).astype(np.int64)
        filled = np.zeros(index.max(0) + 1, dtype=bool)
        filled[tuple(index.T)] = True
        if filled.sum() * _POINTS <= len(coord) or cell * _CELLS[1] >= extent:
            break
        cell *= 1.5
    spacing = cell * np.sqrt(filled.sum() / len(coord))
    return Occupancy(low, cell, filled, float(spacing))


def free_length(
    scene: Occupancy, start: np.ndarray, direction: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """Walk from surface points until something is in the way.

    Args:
        scene: the occupied cells.
        start: (K, 3) points on surfaces, metres.
        direction: (K, 3) unit vectors.
        reach: (K,) the longest way, metres.

    Returns:
        (K,) metres up to two cells before the first occupied one, at most ``reach``.
    """
    # The surface one starts from fills the first cells.
    steps = 3 + np.arange(max(1, int(np.ceil(reach.max() / scene.cell)) - 2))
    length = steps * scene.cell
    place = start[:, None] + length[None, :, None] * direction[:, None]
    index = np.floor((place - scene.low) / scene.cell).astype(np.int64)
    inside = ((index >= 0) & (index < scene.filled.shape)).all(-1)
    index = np.where(inside[..., None], index, 0)
    blocked = scene.filled[tuple(np.moveaxis(index, -1, 0))] & inside
    first = np.where(blocked.any(1), blocked.argmax(1), len(steps))
    free = np.where(first < len(steps), (first + 1) * scene.cell, np.inf)
    return np.minimum(free, reach)


def place_cameras(
    coord: np.ndarray, scene: Occupancy, draw: np.ndarray, where: CameraRange
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put cameras into free space, each looking at a point of the scene.

    Args:
        coord: (N, 3) points that may be looked at, metres.
        scene: the occupied cells.
        draw: (K, 4) uniform numbers in [0, 1): target, azimuth, elevation, distance.
        where: where cameras stand.

    Returns:
        positions (K, 3) and targets (K, 3), metres, and (K,) bool, whether there is
        room for the camera at half the smallest distance or more.
    """
    side = np.array(scene.filled.shape) * scene.cell
    diagonal = float(np.hypot(*side[:2]))
    target = coord[(draw[:, 0] * len(coord)).astype(np.int64)].astype(np.float64)
    azimuth = 2 * np.pi * draw[:, 1]
    elevation = np.radians(_between(where.elevation, draw[:, 2]))
    direction = np.stack(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ],
        axis=1,
    )
    wanted = diagonal * _between(where.distance, draw[:, 3])
    border = diagonal * np.array([where.margin, where.margin, 0.0])
    low = scene.low - border
    high = scene.low + side + border
    high[2] += diagonal * where.headroom
    with np.errstate(divide="ignore", invalid="ignore"):
        to_wall = np.where(direction > 0, high - target, low - target) / direction
    to_wall = np.nanmin(np.where(direction == 0, np.inf, to_wall), axis=1)
    reach = np.minimum(wanted, np.maximum(to_wall, 0))
    length = free_length(scene, target, direction, reach)
    roomy = length >= 0.5 * diagonal * where.distance[0]
    return target + length[:, None] * direction, target, roomy


def visible_points(
    coord: np.ndarray,
    camera: Camera,
    spacing: float,
    field_of_view: tuple[float, float] = (90.0, 70.0),
    footprint: float = 2.0,
) -> np.ndarray:
    """Find the points that a camera sees, by a depth buffer.

    A point hides what lies behind a disk of ``footprint`` spacings, whatever its
    distance: near points are drawn into coarser buffers, which the finer ones inherit.

    Args:
        coord: (N, 3) metres.
        camera: where it stands and looks.
        spacing: distance of neighbouring points on surfaces, metres.
        field_of_view: horizontal and vertical angle, degrees.
        footprint: see above; larger closes gaps, smaller keeps thin things apart.

    Returns:
        (V,) indices, ascending.
    """
    across, depth = _project(coord, camera)
    limit = np.tan(np.radians(field_of_view) / 2)
    near = footprint * spacing
    seen = depth > near
    seen &= (np.abs(across) <= limit * depth[:, None]).all(1)
    index = np.flatnonzero(seen)
    if not len(index):
        return index
    depth = depth[index]
    across = across[index] / depth[:, None]
    size = footprint * spacing / depth
    finest = max(float(size.min()), 2 * limit.max() / _PIXELS)
    level = np.ceil(np.log2(np.maximum(size / finest, 1))).astype(np.int64)
    # Buffers of 2^k pixels a side nest exactly.
    top = max(int(level.max()), int(np.ceil(np.log2(2 * limit.max() / finest))))
    pixel = ((across + limit) / finest).astype(np.int64)
    order = np.argsort(level, kind="stable")
    begin = np.searchsorted(level[order], np.arange(top + 2))
    buffer = np.full((1, 1), np.inf)
    for now in range(top, -1, -1):
        if now < top:
            buffer = buffer.repeat(2, 0).repeat(2, 1)
        rows = order[begin[now] : begin[now + 1]]
        x, y = (pixel[rows] >> now).T
        np.minimum.at(buffer, (x, y), depth[rows])
    # Surfaces seen at a grazing angle spread in depth within a pixel.
    tolerance = 2 * footprint * spacing + 0.03 * depth
    return index[depth <= buffer[tuple(pixel.T)] + tolerance]


def overlap(first: np.ndarray, second: np.ndarray, num_points: int) -> float:
    """Return the points in both views, as a share of the larger view.

    Stricter than PointContrast's, which divides by the smaller one.

    Args:
        first, second: (V,) indices, each once; num_points: N of the scene.
    """
    if not len(first) or not len(second):
        return 0.0
    mask = np.zeros(num_points, dtype=bool)
    mask[first] = True
    return float(mask[second].sum() / max(len(first), len(second)))


@dataclass(frozen=True)
class ViewPairDraw:
    """Everything random about a pair of views.

    Attributes:
        first, second: (K, 4) uniform numbers in [0, 1) of the candidates for either
            camera, see ``place_cameras``.
    """

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def sample(cls, tries: int, rng=np.random) -> "ViewPairDraw":
        """Draw ``tries`` candidates a camera (NumPy's global generator)."""
        first, second = rng.uniform(size=(2, tries, 4))
        return cls(first, second)


def partial_view_pair(
    coord: np.ndarray,
    draw: ViewPairDraw,
    where: CameraRange | None = None,
    overlaps: tuple[float, float] = (0.3, 0.9),
    field_of_view: tuple[float, float] = (90.0, 70.0),
    min_size: int = 1000,
    max_size: int = 65536,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the points of two views of a scene from two viewpoints.

    The first camera looks at a random point, the second, from elsewhere, at a point
    that the first one sees. Of the candidates the first is taken whose views have the
    wanted overlap. Where none has, the best one is moved towards the first camera
    until the overlap suffices: the lower bound holds for every scene.

    Args:
        coord: (N, 3) metres, z up.
        draw: everything random.
        where: where cameras stand.
        overlaps: range of the overlap, see ``overlap``.
        field_of_view: of the cameras, degrees.
        min_size: points that a view should have (at most a tenth of the scene's).
        max_size: points that a view has at most; those nearest to its target stay.

    Returns:
        (V,) indices of either view's points. A scene that no camera can look at is
        shown as a whole.
    """
    where = where or CameraRange()
    scene = occupancy(coord)
    least = max(1, min(min_size, len(coord) // 10))

    def look(position: np.ndarray, target: np.ndarray) -> np.ndarray:
        camera = Camera(position, target)
        index = visible_points(coord, camera, scene.spacing, field_of_view)
        return index[nearest_points(coord[index], target, max_size)]

    placed = _best_first(place_cameras(coord, scene, draw.first, where))
    for position, target in zip(*placed, strict=True):
        first = look(position, target)
        if len(first) >= least:
            break
    else:
        whole = nearest_points(coord, coord.mean(0), max_size)
        return whole, whole.copy()

    others = _best_first(place_cameras(coord[first], scene, draw.second, where))
    best, best_overlap = (position, target), -1.0
    for candidate in zip(*others, strict=True):
        second = look(*candidate)
        shared = overlap(first, second, len(coord))
        if len(second) >= least and overlaps[0] <= shared <= overlaps[1]:
            return first, second
        if shared > best_overlap:
            best, best_overlap = candidate, shared
    for halving in range(_HALVINGS):
        if best_overlap > overlaps[1]:
            break
        part = 0.5**halving
        second = look(
            position + part * (best[0] - position), target + part * (best[1] - target)
        )
        if overlap(first, second, len(coord)) >= overlaps[0]:
            return first, second
    second = look(*best) if best_overlap >= overlaps[0] else first.copy()
    return first, second


def _best_first(
    placed: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and targets of cameras, those that have room first."""
    position, target, roomy = placed
    order = np.argsort(~roomy, kind="stable")
    return position[order], target[order]


def _between(bounds: tuple[float, float], share: np.ndarray) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _project(coord: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 2) metres right and up of the optical axis, and (N,) along it."""
    forward = np.asarray(camera.target, dtype=float) - camera.position
    forward /= max(float(np.linalg.norm(forward)), 1e-12)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-6:  # straight up or down
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(right, forward), forward], axis=1)
    local = (coord - np.asarray(camera.position)).astype(np.float32)
    local = local @ frame.astype(np.float32)
    return local[:, :2], local[:, 2]
