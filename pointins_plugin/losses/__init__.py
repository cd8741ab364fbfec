"""Losses, one a file; importing the package registers them."""

from .odr import ODRLoss
from .offset import OffsetLoss
from .scr import SCRLoss

__all__ = ["ODRLoss", "OffsetLoss", "SCRLoss"]
