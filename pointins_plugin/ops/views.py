"""Which points of a scene a view shows."""

import numpy as np


def nearest_points(coord: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Return the indices of the ``size`` points nearest to a centre, in any order.

    A partial selection, not a sort: linear in the number of points.
    """
    if size >= len(coord):
        return np.arange(len(coord))
    distance = np.zeros(len(coord), dtype=coord.dtype)
    for axis in range(3):
        step = coord[:, axis] - centre[axis]
        distance += step * step
    return np.argpartition(distance, size - 1)[:size]


def view_size(num_points: int, scale: tuple[float, float], max_size: int) -> int:
    """Draw the number of points of a view, a share of what fits in ``max_size``."""
    limit = min(max_size, num_points)
    size = int(np.random.uniform(*scale) * limit)
    return min(max(size, 10), num_points)


def one_ring(coord: np.ndarray, width: float, index: np.ndarray) -> np.ndarray:
    """Return those of the indices (M,) whose points (M, 3) lie in one ring.

    The ring, around the z axis, is drawn from those that hold points, each alike.
    """
    ring = (np.hypot(coord[:, 0], coord[:, 1]) / width).astype(np.int64)
    return index[ring == np.random.choice(np.unique(ring))]


def sample_views(
    coord: np.ndarray,
    global_view_num: int = 2,
    global_view_scale: tuple[float, float] = (0.4, 1.0),
    local_view_num: int = 4,
    local_view_scale: tuple[float, float] = (0.1, 0.4),
    max_size: int = 65536,
    center_height_scale: tuple[float, float] = (0, 1),
    shared_global_view: bool = False,
    even_range: float | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Choose the points of global and local views (NumPy's global generator).

    The first global view is centred on a random point; the others, and the local
    ones, on points of the first. Local centres avoid what earlier local views cover.

    Args:
        coord: (N, 3) metres.
        center_height_scale: range of the first centre's height over the scene's.
        shared_global_view: all global views show the same points.
        even_range: width of rings around the z axis, metres, that centres are drawn
            from alike; None draws them from the points alike. For LiDAR scans in the
            sensor's frame, whose points crowd about the sensor.
        Others as in Pointcept's ``MultiViewGenerator``.

    Returns:
        Indices of each global view and of each local view.
    """
    height = coord[:, 2]
    low, high = height.min(), height.max()
    bounds = low + (high - low) * np.asarray(center_height_scale)
    candidates = np.flatnonzero((height >= bounds[0]) & (height <= bounds[1]))
    if not len(candidates):
        candidates = np.arange(len(coord))

    def view(index: int, scale: tuple[float, float]) -> np.ndarray:
        size = view_size(len(coord), scale, max_size)
        return nearest_points(coord, coord[index], size)

    def centre(choice: np.ndarray) -> int:
        if even_range is not None:
            choice = one_ring(coord[choice], even_range, choice)
        return np.random.choice(choice)

    major = view(centre(candidates), global_view_scale)
    global_views = [major]
    for _ in range(global_view_num - 1):
        if shared_global_view:
            global_views.append(major.copy())
        else:
            global_views.append(view(centre(major), global_view_scale))
    local_views = []
    covered = np.zeros(len(coord), dtype=bool)
    for _ in range(local_view_num):
        free = major[~covered[major]]
        if not len(free):
            covered[:] = False
            free = major
        local_views.append(view(centre(free), local_view_scale))
        covered[local_views[-1]] = True
    return global_views, local_views
