"""Transforms of a scene, by Pointcept's names and with its effects."""

from . import collecting, colour, geometric, sampling, views
from .base import Compose, index_operator

__all__ = [
    "Compose",
    "collecting",
    "colour",
    "geometric",
    "index_operator",
    "sampling",
    "views",
]
