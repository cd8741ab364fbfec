"""Semantic objectives of the teacher-student trunk, one a file."""

from .base import LocalViews, Match, linear_warmup
from .dos import DOSObjective
from .sonata import SonataObjective

__all__ = [
    "DOSObjective",
    "LocalViews",
    "Match",
    "SonataObjective",
    "linear_warmup",
]
