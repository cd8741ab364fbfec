"""Losses, one a file; importing the package registers them."""

from .contrast import HardestContrastiveLoss, PointInfoNCELoss
from .odr import ODRLoss
from .offset import OffsetLoss
from .scr import SCRLoss

__all__ = [
    "HardestContrastiveLoss",
    "ODRLoss",
    "OffsetLoss",
    "PointInfoNCELoss",
    "SCRLoss",
]
