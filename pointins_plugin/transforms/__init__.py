"""Transforms of the plugin; importing the package registers them."""

from .multi_view import TrackedMultiViewGenerator
from .tracked_affine import TrackedAffine

__all__ = ["TrackedAffine", "TrackedMultiViewGenerator"]
