"""Semantic objectives of the teacher-student trunk, one a file."""

from .base import LocalViews, Match, linear_warmup
from .contrast import ContrastObjective
from .dos import DOSObjective
from .sonata import SonataObjective

__all__ = [
    "ContrastObjective",
    "DOSObjective",
    "LocalViews",
    "Match",
    "SonataObjective",
    "linear_warmup",
]
