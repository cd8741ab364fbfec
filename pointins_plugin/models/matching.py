"""Which student and teacher tokens show the same place."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from pointins_plugin.host import Point
from pointins_plugin.models.objectives import Match
from pointins_plugin.models.tokens import cloud_ends, input_to_token
from pointins_plugin.ops.neighbours import nearest
from pointins_plugin.ops.segments import segment_ends


def match_visible(student: Point, teacher: Point, visible: Tensor) -> Match:
    """Match the tokens of visible points to the teacher's tokens of the same points.

    Args:
        student: tokens of the visible points alone.
        teacher: tokens of all points.
        visible: (N,) bool, whole tokens; or the rows of those that are.
    """
    token = torch.empty_like(student.batch)
    token[input_to_token(student)] = input_to_token(teacher)[visible]
    return _pairs(token, student.batch)


def match_nearest(
    coord: Tensor,
    offset: Tensor | Sequence[int],
    batch: Tensor,
    teacher: Point,
    clouds: Tensor | Sequence[int],
    radius: float,
) -> Match:
    """Match student tokens to the nearest teacher token in the origin frame.

    Args:
        coord: (N, 3) origin coordinates of the student's tokens, metres.
        offset: (G,) cumulative counts of the groups that search one teacher cloud.
        batch: (N,) the student's view of every token.
        teacher: the teacher's tokens.
        clouds: (G,) the teacher cloud that a group searches. As of ``offset``, numbers
            or a tensor, for which a GPU waits.
        radius: pairs are closer than this, metres.
    """
    ends = cloud_ends(teacher)
    starts = [0, *ends]
    # Rows of the clouds searched, in the order of the groups.
    searched = [
        torch.arange(starts[cloud], ends[cloud], device=coord.device)
        for cloud in segment_ends(clouds)
    ]
    order = torch.cat(searched)
    searched_ends = list(itertools.accumulate(map(len, searched)))
    found, distance = nearest(
        coord.float(),
        teacher.origin_coord.index_select(0, order).float(),
        offset,
        searched_ends,
    )
    close = (found >= 0) & (distance < radius)
    if not len(order):
        return _pairs(found, batch)
    token = torch.where(close, order[found.clamp(min=0)], -1)
    return _pairs(token, batch)


def _pairs(token: Tensor, batch: Tensor) -> Match:
    """Return the pairs of students and their teacher token, -1 for none."""
    student = torch.nonzero(token >= 0)[:, 0]
    return Match(student=student, teacher=token[student], batch=batch[student])
