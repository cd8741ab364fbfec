"""Whether a cloud is in other units than it is taken for."""

import numpy as np

_CANDIDATES = {"mm": 0.001, "cm": 0.01, "m": 1.0, "km": 1000.0}
_SAMPLES = 32  # points whose surroundings are looked at
_FEW = 10  # cells around a point in which a scan has others
_MANY = 10  # scenes of training that a cloud may be wide before it is looked at
_WIDE, _FAR = 500.0, 2.0  # no scan of metres is that wide and has so lonely points


def scale_doubt(
    coord: np.ndarray, grid_size: float, scene_size: float, scale: float = 1.0
) -> str | None:
    """Return in words why a cloud's units look wrong, or None.

    Width alone proves nothing, a building is wide. A cloud is too large if its points
    are lonely as well: most have no other within ten cells of the network.

    Args:
        coord: (N, 3) in what are taken for metres.
        grid_size: side of the network's cells, metres.
        scene_size: width of the scenes that it was trained on, metres.
        scale: metres in a unit of the cloud, as it was read.
    """
    if len(coord) < 2:
        return None
    width = float(np.ptp(coord, axis=0).max())
    small = 0 < width < 0.05 * scene_size
    large = width > _MANY * scene_size and _lonely(coord, _FEW * grid_size)
    if not small and not large:
        return None
    widths = {name: width / scale * metres for name, metres in _CANDIDATES.items()}
    unit = min(widths, key=lambda name: abs(np.log(widths[name] / scene_size)))
    words = f"it is {width:,.0f} m wide" if width > 99 else f"it is {width:.2g} m wide"
    if large:
        words += " and its points lie far apart"
    words += f", scenes of training are about {scene_size:.2g} m"
    fits = large or widths[unit] < _MANY * scene_size
    if fits and not np.isclose(_CANDIDATES[unit], scale):
        words += f": is it in {unit}? (--units {unit})"
    return words


def hardly_metres(coord: np.ndarray) -> bool:
    """Whether a cloud can hardly be in metres: wide, and its points lie far apart.

    What is scanned in millimetres, every few of them, is so; LiDAR of streets is not
    wide, and that from the air has points within two metres of each other.

    Args:
        coord: (N, 3).
    """
    if len(coord) < 2 or np.ptp(coord, axis=0).max() < _WIDE:
        return False
    return _lonely(coord, _FAR)


def _lonely(coord: np.ndarray, reach: float) -> bool:
    """Whether most points have no other in the cube of half a side ``reach``."""
    picks = np.random.default_rng(0).choice(len(coord), _SAMPLES)
    alone = 0
    for point in coord[picks]:
        near = np.abs(coord[:, 0] - point[0]) <= reach
        near &= np.abs(coord[:, 1] - point[1]) <= reach
        near &= np.abs(coord[:, 2] - point[2]) <= reach
        alone += near.sum() == 1
    return alone > _SAMPLES / 2
