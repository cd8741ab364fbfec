"""Transforms of the plugin; importing the package registers them."""

from .multi_view import TrackedMultiViewGenerator
from .range_crop import RangeCrop
from .thing_instances import ThingInstances
from .tracked_affine import TrackedAffine
from .view_pairs import PartialViewPairGenerator

__all__ = [
    "PartialViewPairGenerator",
    "RangeCrop",
    "ThingInstances",
    "TrackedAffine",
    "TrackedMultiViewGenerator",
]
