"""Matching against all distances, cloud by cloud."""

import pytest
import torch

from pointins_plugin.host import Point
from pointins_plugin.models.matching import match_nearest, match_visible


def cloud(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    coord = torch.rand(sum(sizes), 3, generator=generator)
    return Point(origin_coord=coord, offset=torch.tensor(sizes).cumsum(0))


@pytest.mark.parametrize("searched", [[0, 1, 2], [1, 0, 2], [2, 2, 0]])
@pytest.mark.parametrize("sizes", [[30, 50, 20], [30, 0, 20], [0, 0, 0]])
def test_equals_all_distances(sizes, searched):
    student, teacher = cloud([25, 10, 40], 0), cloud(sizes, 1)
    match = match_nearest(
        student.origin_coord,
        student.offset,
        student.batch,
        teacher,
        torch.tensor(searched),
        radius=0.15,
    )
    expected = []
    for row, (point, own) in enumerate(
        zip(student.origin_coord, student.batch.tolist(), strict=True)
    ):
        rows = (teacher.batch == searched[own]).nonzero()[:, 0]
        distance = (teacher.origin_coord[rows] - point).norm(dim=1)
        if len(rows) and distance.min() < 0.15:
            expected.append((row, int(rows[distance.argmin()]), own))
    found = zip(
        match.student.tolist(),
        match.teacher.tolist(),
        match.batch.tolist(),
        strict=True,
    )
    assert list(found) == expected


def test_visible_tokens_are_the_teachers():
    def tokens(inverse, batch):
        point = Point(coord=torch.zeros(len(inverse), 3), batch=torch.tensor(batch))
        num = max(inverse) + 1
        coarse = Point(coord=torch.zeros(num, 3), batch=torch.zeros(num).long())
        # of the pooled cloud only what matching reads
        point["feat"] = coarse["feat"] = torch.zeros(0)
        coarse["pooling_parent"] = point
        coarse["pooling_inverse"] = torch.tensor(inverse)
        return coarse

    teacher = tokens([0, 0, 1, 2, 2], [0] * 5)
    visible = torch.tensor([True, True, False, True, True])
    student = tokens([0, 0, 1, 1], [0] * 4)
    match = match_visible(student, teacher, visible)
    assert match.student.tolist() == [0, 1]
    assert match.teacher.tolist() == [0, 2]
