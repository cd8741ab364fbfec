"""Which student and teacher tokens show the same place."""

import torch
from torch import Tensor

from pointins_plugin.host import Point, offset2bincount
from pointins_plugin.models.objectives import Match
from pointins_plugin.models.tokens import input_to_token
from pointins_plugin.ops.neighbours import nearest


def match_visible(student: Point, teacher: Point, visible: Tensor) -> Match:
    """Match the tokens of visible points to the teacher's tokens of the same points.

    Args:
        student: tokens of the visible points alone.
        teacher: tokens of all points.
        visible: (N,) bool, whole tokens.
    """
    token = torch.empty_like(student.batch)
    token[input_to_token(student)] = input_to_token(teacher)[visible]
    return _pairs(token, student.batch)


def match_nearest(
    coord: Tensor,
    offset: Tensor,
    batch: Tensor,
    teacher: Point,
    clouds: Tensor,
    radius: float,
) -> Match:
    """Match student tokens to the nearest teacher token in the origin frame.

    Args:
        coord: (N, 3) origin coordinates of the student's tokens, metres.
        offset: (G,) cumulative counts of the groups that search one teacher cloud.
        batch: (N,) the student's view of every token.
        teacher: the teacher's tokens.
        clouds: (G,) the teacher cloud that a group searches.
        radius: pairs are closer than this, metres.
    """
    count = offset2bincount(teacher.offset)
    start, size = (teacher.offset - count)[clouds], count[clouds]
    end = torch.cumsum(size, 0)
    # Rows of the clouds searched, in the order of the groups.
    shift = torch.repeat_interleave(start - (end - size), size)
    order = torch.arange(len(shift), device=shift.device) + shift
    found, distance = nearest(
        coord.float(), teacher.origin_coord[order].float(), offset, end
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
