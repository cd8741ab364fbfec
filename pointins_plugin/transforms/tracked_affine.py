"""Augmentation by one affine matrix that is recorded."""

from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS

CENTRES = ("origin", "box", "box_floor")


def rotation(axis: str, angle: float) -> np.ndarray:
    """Return the 4 x 4 rotation by ``angle`` radians about axis x, y or z."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[j, i] = np.sin(angle)
    matrix[i, j] = -matrix[j, i]
    return matrix


def scaling(factors: np.ndarray) -> np.ndarray:
    """Return the 4 x 4 scaling by three factors; a negative one mirrors its axis."""
    return np.diag([*np.asarray(factors, dtype=float), 1.0])


def translation(shift: np.ndarray) -> np.ndarray:
    """Return the 4 x 4 translation by (3,) metres."""
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def transform_points(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a 4 x 4 matrix to points (N, 3), in their dtype."""
    moved = points.astype(np.float64) @ affine[:3, :3].T + affine[:3, 3]
    return moved.astype(points.dtype)


def transform_vectors(affine: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Apply the linear part of a 4 x 4 matrix to vectors (N, 3), e.g. offsets.

    Source: PointINS, tracked affine: ``o' = A o``.
    """
    return (vectors.astype(np.float64) @ affine[:3, :3].T).astype(vectors.dtype)


def transform_normals(affine: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Apply the inverse transpose to unit normals (N, 3) and normalise them again.

    Zero normals (unknown) stay zero.
    """
    moved = normals.astype(np.float64) @ np.linalg.inv(affine[:3, :3])
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return (moved / np.where(length > 0, length, 1)).astype(normals.dtype)


@TRANSFORMS.register_module()
class TrackedAffine:
    """Rotate, scale, flip and shift by one matrix, applied once and recorded.

    ``affine`` (4, 4) float64 maps the origin frame to the augmented one; it composes
    with an ``affine`` already there, so that any number of these may follow each
    other. Four steps, as in kornia: ``sample`` draws all randomness, ``matrix`` is a
    pure function of the draw, ``apply`` applies a matrix, the call does all three.
    ``apply`` with an earlier draw's matrix replays it.

    Args:
        rotate: ranges by axis in half turns, applied in the given order, e.g.
            ``dict(z=(-1, 1), x=(-1/64, 1/64), y=(-1/64, 1/64))``.
        rotate_p: probability of each rotation.
        scale: range of the factor.
        anisotropic: one factor an axis.
        flip_p: probability to mirror x, and y.
        shift: ranges (x, y, z) of the final translation, metres.
        center: what is moved to the origin first: ``"origin"`` nothing, ``"box"`` the
            bounding box's centre, ``"box_floor"`` that of its floor (as
            ``CenterShift``).

    Randomness is NumPy's global generator, which the trainer seeds for each sample,
    unless ``sample`` is given one.

    Source: PointINS, tracked affine; ranges default to Sonata's.
    """

    def __init__(
        self,
        rotate: dict[str, tuple[float, float]] | None = None,
        rotate_p: float = 0.8,
        scale: tuple[float, float] = (0.9, 1.1),
        anisotropic: bool = False,
        flip_p: float = 0.5,
        shift: tuple[tuple[float, float], ...] | None = None,
        center: str = "box_floor",
    ):
        if rotate is None:
            rotate = {"z": (-1, 1), "x": (-1 / 64, 1 / 64), "y": (-1 / 64, 1 / 64)}
        odd = set(rotate) - {"x", "y", "z"}
        if odd:
            raise UserError(f"config: TrackedAffine cannot rotate about {odd.pop()!r}")
        if not 0 < scale[0] <= scale[1]:
            raise UserError(f"config: TrackedAffine scale={scale} is no positive range")
        if center not in CENTRES:
            raise UserError(
                f"config: TrackedAffine center={center!r}; use one of {CENTRES}"
            )
        self.rotate = dict(rotate)
        self.rotate_p = rotate_p
        self.scale = scale
        self.anisotropic = anisotropic
        self.flip_p = flip_p
        self.shift = shift
        self.center = center

    def sample(self, rng: Any = np.random) -> dict[str, Any]:
        """Draw the parameters: angles (radians) by axis, factors, signs and shift."""
        angles = {
            axis: np.pi * rng.uniform(*bounds) if rng.uniform() < self.rotate_p else 0.0
            for axis, bounds in self.rotate.items()
        }
        factors = rng.uniform(*self.scale, size=3 if self.anisotropic else 1)
        mirrored = rng.uniform(size=2) < self.flip_p
        shift = np.zeros(3)
        if self.shift is not None:
            shift = np.array([rng.uniform(low, high) for low, high in self.shift])
        return {
            "angles": angles,
            "factors": np.broadcast_to(factors, 3),
            "signs": np.array([*np.where(mirrored, -1.0, 1.0), 1.0]),
            "shift": shift,
        }

    @staticmethod
    def matrix(parameters: dict[str, Any], centre: np.ndarray) -> np.ndarray:
        """Return shift * flip * rotation * scale * (- centre), (4, 4) float64."""
        affine = scaling(parameters["factors"]) @ translation(-np.asarray(centre))
        for axis, angle in parameters["angles"].items():
            affine = rotation(axis, angle) @ affine
        affine = scaling(parameters["signs"]) @ affine
        return translation(parameters["shift"]) @ affine

    def centre(self, coord: np.ndarray) -> np.ndarray:
        """Return the point (3,) that is moved to the origin."""
        if self.center == "origin" or not len(coord):
            return np.zeros(3)
        low, high = coord.min(0).astype(float), coord.max(0).astype(float)
        centre = (low + high) / 2
        if self.center == "box_floor":
            centre[2] = low[2]
        return centre

    @staticmethod
    def apply(data_dict: dict, affine: np.ndarray) -> dict:
        """Apply a matrix to ``coord`` and ``normal`` and record it as ``affine``."""
        data_dict["coord"] = transform_points(affine, data_dict["coord"])
        if "normal" in data_dict:
            data_dict["normal"] = transform_normals(affine, data_dict["normal"])
        before = data_dict.get("affine")
        data_dict["affine"] = affine if before is None else affine @ before
        return data_dict

    def __call__(self, data_dict: dict) -> dict:
        affine = self.matrix(self.sample(), self.centre(data_dict["coord"]))
        return self.apply(data_dict, affine)
