"""What the trunk and its objectives share.

An objective is a module with

- ``student_input``: ``"visible"``, masked points are dropped from the student's view,
  or ``"masked"``, they stay with a mask token in place of their features;
- ``uses_masked_view``, ``uses_other_view``, ``uses_local_views``: what it learns from;
- ``has_prototypes``: whether its teacher's outputs are similarities to prototypes,
  whose use ``CollapseMonitor`` watches;
- ``build_heads(in_channels)``: the heads that student and teacher each own;
- ``set_progress(progress)``, ``teacher_outputs(heads, feature)`` and ``forward``, as
  ``DOSObjective`` and ``SonataObjective`` have them.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Match:
    """Pairs of student and teacher tokens that show the same place.

    Attributes:
        student: (M,) student tokens, sorted by cloud.
        teacher: (M,) their teacher tokens, of the same or of another view.
        batch: (M,) the student's cloud (view) of every pair.
    """

    student: Tensor
    teacher: Tensor
    batch: Tensor


@dataclass(frozen=True)
class LocalViews:
    """The student's tokens of local views, matched to the teacher's major view.

    Attributes:
        feature: (N, C) token features.
        match: pairs with the teacher's tokens of the scene's first global view.
        num_clouds: number of local views in the batch.
    """

    feature: Tensor
    match: Match
    num_clouds: int


def linear_warmup(start: float, base: float, progress: float, ratio: float) -> float:
    """Return the value at ``progress`` in [0, 1] of a linear warm-up then constant."""
    if ratio <= 0 or progress >= ratio:
        return base
    return start + (base - start) * progress / ratio
