"""Colours of rooms: palettes, textures and shading."""

import numpy as np

PLAIN, GRAIN, PLANKS, TILES, MOTTLED, STRIPES = range(6)

WOODS = np.array(
    [
        [178, 132, 88],
        [203, 164, 119],
        [126, 84, 54],
        [92, 62, 44],
        [224, 198, 160],
        [154, 108, 74],
    ],
    float,
)
FABRICS = np.array(
    [
        [112, 116, 122],
        [68, 84, 112],
        [164, 152, 134],
        [134, 62, 58],
        [86, 108, 84],
        [196, 184, 166],
        [58, 60, 66],
        [172, 134, 74],
        [96, 130, 140],
    ],
    float,
)
PAINTS = np.array(
    [
        [232, 230, 224],
        [222, 214, 198],
        [206, 214, 218],
        [214, 220, 206],
        [228, 212, 204],
        [196, 200, 206],
    ],
    float,
)
METALS = np.array(
    [[150, 152, 156], [58, 58, 60], [196, 196, 194], [104, 98, 90]], float
)
PLASTICS = np.array(
    [
        [232, 232, 230],
        [44, 46, 50],
        [176, 52, 46],
        [52, 92, 150],
        [224, 178, 62],
        [72, 134, 92],
        [128, 130, 134],
    ],
    float,
)
CARTONS = np.array([[188, 150, 106], [170, 132, 92], [206, 176, 136]], float)
LEAVES = np.array([[74, 112, 58], [98, 138, 70], [58, 92, 62]], float)


def pick(rng: np.random.Generator, palette: np.ndarray, spread=8.0) -> np.ndarray:
    """Return one colour (3,) of a palette, varied by ``spread``."""
    color = palette[rng.integers(len(palette))] + rng.normal(0, spread / 2)
    return np.clip(color + rng.normal(0, spread / 2, 3), 8, 247)


def _hash(*cells: np.ndarray) -> np.ndarray:
    """Return a number in [0, 1) for each cell of an integer lattice."""
    mixed = np.zeros(cells[0].shape, np.uint32)
    for cell, prime in zip(cells, (73856093, 19349663, 83492791), strict=False):
        mixed ^= cell.astype(np.int64).astype(np.uint32) * np.uint32(prime)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0x5BD1E995)
    return (mixed ^ (mixed >> np.uint32(15))).astype(np.float64) / 2**32


def texture(pattern: np.ndarray, local: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the brightness factor (n,) of points on textured solids.

    Args:
        pattern: (n,) one of this module's patterns.
        local: (n, 3) metres, in the solid's frame.
        which: (n,) number of the solid, so that equal solids differ.
    """
    factor = np.ones(len(pattern))
    x, y, z = local.T
    phase = which * 0.7
    for kind in np.unique(pattern):
        m = pattern == kind
        if kind == GRAIN:
            wave = 38 * y[m] + 21 * z[m] + 2.5 * np.sin(5 * x[m] + phase[m]) + phase[m]
            factor[m] = 1 + 0.07 * np.sin(wave) + 0.04 * np.sin(2.7 * wave + 1)
        elif kind == PLANKS:
            row = np.floor(y[m] / 0.14)
            cell = np.floor((x[m] + 0.53 * row) / 1.1)
            factor[m] = 0.86 + 0.26 * _hash(row, cell)
        elif kind == TILES:
            u, v = x[m] / 0.33, y[m] / 0.33
            joint = np.minimum(u - np.floor(u), v - np.floor(v)) < 0.05
            tone = 0.95 + 0.1 * _hash(np.floor(u), np.floor(v))
            factor[m] = np.where(joint, 0.72, tone)
        elif kind == MOTTLED:
            cells = [np.floor(c[m] / 0.03) for c in (x, y, z)]
            factor[m] = 0.92 + 0.16 * _hash(*cells)
        elif kind == STRIPES:
            factor[m] = np.where(np.floor((x[m] + 9) / 0.12) % 2 == 0, 0.72, 1.1)
    return factor


def shade(
    albedo: np.ndarray,
    coord: np.ndarray,
    normal: np.ndarray,
    lamp: np.ndarray,
    window: np.ndarray,
) -> np.ndarray:
    """Return the colour (n, 3), 0-255, under a ceiling lamp and daylight.

    Args:
        albedo: (n, 3), 0-255.
        coord, normal: (n, 3).
        lamp: (3,) position of the lamp.
        window: (3,) unit direction the daylight comes from.
    """
    to_lamp = lamp - coord
    distance = np.linalg.norm(to_lamp, axis=1)
    facing = np.maximum((normal * to_lamp).sum(1) / distance, 0)
    light = 0.62 + 0.4 * facing / (0.6 + 0.12 * distance**2)
    light += 0.24 * np.maximum(normal @ window, 0) + 0.06 * normal[:, 2]
    return np.clip(albedo * light[:, None], 0, 255)
