"""Transforms of colour, in the range 0 to 255 until NormalizeColor.

Colours are (N, 3) or more columns, of which the first three are changed. With the same
seeds the draws are Pointcept's.
"""

import random

import numpy as np
import torch

from ..registry import TRANSFORMS


def to_gray(rgb: np.ndarray) -> np.ndarray:
    """Return the luminance (N, 1)."""
    r, g, b = rgb.T[:3]
    return (0.2989 * r + 0.587 * g + 0.114 * b).astype(rgb.dtype)[:, None]


def rgb_to_hsv(rgb: np.ndarray) -> np.ndarray:
    """Convert (N, 3) in any range; hue in turns, value in the range of the input."""
    high, low = rgb.max(1), rgb.min(1)
    span = high - low
    safe = np.where(span > 0, span, 1)
    saturation = np.where(high > 0, span / np.where(high > 0, high, 1), 0)
    r, g, b = rgb.T
    hue = np.select(
        [span == 0, high == r, high == g],
        [0, (g - b) / safe, 2 + (b - r) / safe],
        default=4 + (r - g) / safe,
    )
    return np.stack([(hue / 6) % 1, saturation, high], axis=1)


def hsv_to_rgb(hsv: np.ndarray) -> np.ndarray:
    """Convert (N, 3) back to the range of the values."""
    hue, saturation, value = hsv.T
    shift = (np.array([5, 3, 1]) + hue[:, None] * 6) % 6
    ramp = np.clip(np.minimum(shift, 4 - shift), 0, 1)
    return value[:, None] * (1 - saturation[:, None] * ramp)


def recolour(data_dict: dict, rgb: np.ndarray) -> None:
    """Replace red, green and blue; further columns and the dtype stay."""
    color = data_dict["color"]
    data_dict["color"] = np.concatenate(
        [rgb, color[:, 3:]], axis=1, dtype=color.dtype, casting="unsafe"
    )


@TRANSFORMS.register_module()
class NormalizeColor:
    """Scale colour from 0-255 to 0-1."""

    def __call__(self, data_dict: dict) -> dict:
        if "color" in data_dict:
            data_dict["color"] = data_dict["color"] / 255
        return data_dict


@TRANSFORMS.register_module()
class ChromaticAutoContrast:
    """Stretch each channel to the full range and blend.

    ``blend_factor`` None draws the share of the stretched colours. A cloud of one
    colour stays as it is.
    """

    def __init__(self, p: float = 0.2, blend_factor: float | None = None):
        self.p = p
        self.blend_factor = blend_factor

    def __call__(self, data_dict: dict) -> dict:
        if "color" in data_dict and np.random.rand() < self.p:
            rgb = data_dict["color"][:, :3]
            low, high = rgb.min(0), rgb.max(0)
            if (high > low).any():
                blend = self.blend_factor
                blend = np.random.rand() if blend is None else blend
                scale = 255 / np.where(high > low, high - low, 255)
                mixed = (1 - blend) * rgb + blend * ((rgb - low) * scale)
                recolour(data_dict, mixed)
        return data_dict


@TRANSFORMS.register_module()
class ChromaticTranslation:
    """Add one random colour to all points."""

    def __init__(self, p: float = 0.95, ratio: float = 0.05):
        self.p = p
        self.ratio = ratio

    def __call__(self, data_dict: dict) -> dict:
        if "color" in data_dict and np.random.rand() < self.p:
            shift = (np.random.rand(1, 3) - 0.5) * 255 * 2 * self.ratio
            rgb = data_dict["color"][:, :3]
            recolour(data_dict, np.clip(rgb + shift, 0, 255))
        return data_dict


@TRANSFORMS.register_module()
class ChromaticJitter:
    """Add Gaussian noise to the colour of every point."""

    def __init__(self, p: float = 0.95, std: float = 0.005):
        self.p = p
        self.std = std

    def __call__(self, data_dict: dict) -> dict:
        if "color" in data_dict and np.random.rand() < self.p:
            rgb = data_dict["color"][:, :3]
            noise = np.random.randn(len(rgb), 3) * (self.std * 255)
            recolour(data_dict, np.clip(rgb + noise, 0, 255))
        return data_dict


@TRANSFORMS.register_module()
class RandomColorGrayScale:
    """Replace colour by luminance."""

    def __init__(self, p: float):
        self.p = p

    def __call__(self, data_dict: dict) -> dict:
        if "color" in data_dict and np.random.rand() < self.p:
            recolour(data_dict, np.repeat(to_gray(data_dict["color"]), 3, axis=1))
        return data_dict


@TRANSFORMS.register_module()
class RandomColorJitter:
    """Change brightness, contrast, saturation and hue in random order.

    A number x draws from [1 - x, 1 + x] (hue from [-x, x]); a pair gives the range.
    Each change happens with probability p.
    """

    def __init__(self, brightness=0, contrast=0, saturation=0, hue=0, p=0.95):
        self.ranges = [
            self._range("brightness", brightness, 1),
            self._range("contrast", contrast, 1),
            self._range("saturation", saturation, 1),
            self._range("hue", hue, 0),
        ]
        self.p = p

    @staticmethod
    def _range(name, value, centre):
        if isinstance(value, (int, float)):
            if value < 0:
                raise ValueError(f"RandomColorJitter: {name}={value} is negative")
            low = centre - value
            value = (max(low, 0) if centre else low, centre + value)
        low, high = value
        if low > high or (name == "hue" and not -0.5 <= low <= high <= 0.5):
            raise ValueError(f"RandomColorJitter: {name}={value} is no valid range")
        return None if low == high == centre else (low, high)

    def __call__(self, data_dict: dict) -> dict:
        if "color" not in data_dict:
            return data_dict
        order = torch.randperm(4).tolist()
        draws = [None if r is None else np.random.uniform(*r) for r in self.ranges]
        changes = (self._brightness, self._contrast, self._saturation, self._hue)
        for i in order:
            if draws[i] is not None and np.random.rand() < self.p:
                rgb = data_dict["color"][:, :3]
                recolour(data_dict, changes[i](rgb, draws[i]))
        return data_dict

    @staticmethod
    def _blend(rgb, other, ratio):
        return np.clip(ratio * rgb + (1 - ratio) * other, 0, 255)

    def _brightness(self, rgb, factor):
        return self._blend(rgb, 0, factor)

    def _contrast(self, rgb, factor):
        return self._blend(rgb, to_gray(rgb).mean(), factor)

    def _saturation(self, rgb, factor):
        return self._blend(rgb, to_gray(rgb), factor)

    def _hue(self, rgb, shift):
        hsv = rgb_to_hsv(rgb)
        hsv[:, 0] = (hsv[:, 0] + shift) % 1
        return hsv_to_rgb(hsv)


@TRANSFORMS.register_module()
class HueSaturationTranslation:
    """Turn the hue and scale the saturation of all points; colours become whole."""

    def __init__(self, hue_max: float = 0.5, saturation_max: float = 0.2):
        self.hue_max = hue_max
        self.saturation_max = saturation_max

    def __call__(self, data_dict: dict) -> dict:
        if "color" in data_dict:
            turn = (np.random.rand() - 0.5) * 2 * self.hue_max
            ratio = 1 + (np.random.rand() - 0.5) * 2 * self.saturation_max
            hsv = rgb_to_hsv(data_dict["color"][:, :3].astype(np.float64))
            hsv[:, 0] = (hsv[:, 0] + turn) % 1
            hsv[:, 1] = np.clip(hsv[:, 1] * ratio, 0, 1)
            recolour(data_dict, np.floor(hsv_to_rgb(hsv)))
        return data_dict


@TRANSFORMS.register_module()
class RandomColorDrop:
    """Multiply the colour of all points by ``color_augment`` (0: black).

    Some of Pointcept's configs still name it; Pointcept itself no longer has it.
    """

    def __init__(self, p: float = 0.2, color_augment: float = 0.0):
        self.p = p
        self.color_augment = color_augment

    def __call__(self, data_dict: dict) -> dict:
        if "color" in data_dict and np.random.rand() < self.p:
            recolour(data_dict, data_dict["color"][:, :3] * self.color_augment)
        return data_dict


class _Drop:
    """Set an entry to zero at a random share of the points."""

    key = ""

    def __init__(self, drop_ratio: float = 0.2, drop_application_ratio: float = 0.5):
        self.drop_ratio = drop_ratio
        self.drop_application_ratio = drop_application_ratio

    def __call__(self, data_dict: dict) -> dict:
        if self.key in data_dict and random.random() < self.drop_application_ratio:
            num = len(data_dict[self.key])
            count = int(num * self.drop_ratio)
            rows = np.random.choice(num, count, replace=False)
            data_dict[self.key][rows] = 0
        return data_dict


@TRANSFORMS.register_module()
class RandomDropColor(_Drop):
    """Black out the colour of a random share of the points."""

    key = "color"


@TRANSFORMS.register_module()
class RandomDropNormal(_Drop):
    """Zero the normal of a random share of the points."""

    key = "normal"
