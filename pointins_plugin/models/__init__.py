"""Models and their parts; importing the package registers them."""

from .auxiliary import OffsetAuxSegmentor
from .grouping_point_group import GroupingPointGroup
from .labelled_point_ins import LabelledPointINS
from .objectives import ContrastObjective, DOSObjective, SonataObjective
from .offset_branch import OffsetBranch
from .panoptic import PointGroupPanoptic
from .point_contrast import PointContrast
from .point_ins import PointINS

__all__ = [
    "ContrastObjective",
    "DOSObjective",
    "GroupingPointGroup",
    "LabelledPointINS",
    "OffsetAuxSegmentor",
    "OffsetBranch",
    "PointContrast",
    "PointGroupPanoptic",
    "PointINS",
    "SonataObjective",
]
