"""Models and their parts; importing the package registers them."""

from .objectives import DOSObjective
from .offset_branch import OffsetBranch
from .point_ins import PointINS

__all__ = ["DOSObjective", "OffsetBranch", "PointINS"]
