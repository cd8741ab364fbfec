"""Contrastive losses: values by hand, a brute-force oracle, degenerate input."""

import math

import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import LOSSES
from pointins_plugin.losses import contrast
from pointins_plugin.losses.contrast import (
    HardestContrastiveLoss,
    PointInfoNCELoss,
    hardest_contrastive,
    hardest_negative,
    matched_entries,
    one_match_each,
    point_info_nce,
)

LOSS_TYPES = [
    HardestContrastiveLoss(num_pairs=None, num_negatives=None),
    PointInfoNCELoss(num_pairs=None),
]


def features(n, seed=0, channels=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, generator=generator, dtype=torch.float64)


def some_pairs(n=40, m=30, count=60, seed=0):
    """Matches, several to a point, none twice."""
    generator = torch.Generator().manual_seed(seed)
    code = torch.randperm(n * m, generator=generator)[:count]
    return torch.stack([code // m, code % m], dim=1)


def brute_force(query, key, pairs, m_p, m_n):
    """The equation of the paper, point by point."""
    query = query / query.norm(dim=1, keepdim=True)
    key = key / key.norm(dim=1, keepdim=True)
    matches = {tuple(pair) for pair in pairs.tolist()}
    positive, left, right = [], [], []
    for i, j in matches:
        d = float((query[i] - key[j]).norm())
        positive.append(max(d - m_p, 0) ** 2)
        others = [k for k in range(len(key)) if (i, k) not in matches]
        near = min(float((query[i] - key[k]).norm()) for k in others)
        left.append(max(m_n - near, 0) ** 2)
        others = [k for k in range(len(query)) if (k, j) not in matches]
        near = min(float((query[k] - key[j]).norm()) for k in others)
        right.append(max(m_n - near, 0) ** 2)
    mean = [sum(values) / len(values) for values in (positive, left, right)]
    return mean[0] + 0.5 * mean[1] + 0.5 * mean[2]


def test_hardest_by_hand():
    """Two orthogonal pairs: distance .6 of one match, the other two at sqrt(2)."""
    angle = 2 * math.asin(0.3)  # a chord of .6
    query = torch.tensor([[2.0, 0, 0], [0, 0, 3]], dtype=torch.float64)
    key = torch.tensor([[math.cos(angle), math.sin(angle), 0], [0, 0, 1]]).double()
    pairs = torch.tensor([[0, 0], [1, 1]])
    loss = HardestContrastiveLoss()(query, key, pairs)
    assert loss == pytest.approx(((0.6 - 0.1) ** 2 + 0) / 2, abs=1e-6)
    # a wider margin reaches the negatives: each is sqrt(2) away, from either side
    wide = HardestContrastiveLoss(negative_margin=2.0)(query, key, pairs)
    gap = (2 - math.sqrt(2)) ** 2
    assert wide == pytest.approx(0.125 + 0.5 * gap + 0.5 * gap, abs=1e-6)


@pytest.mark.parametrize("chunk", [1 << 22, 64])
def test_hardest_equals_brute_force(chunk, monkeypatch):
    monkeypatch.setattr(contrast, "_CHUNK", chunk)
    query, key, pairs = features(40), features(30, 1), some_pairs()
    for margins in ((0.1, 1.4), (0.5, 0.9)):
        loss = HardestContrastiveLoss(*margins, num_pairs=None, num_negatives=None)
        expected = brute_force(query, key, pairs, *margins)
        assert loss(query, key, pairs) == pytest.approx(expected, rel=1e-10)


def test_negatives_are_no_matches_and_come_from_the_candidates():
    query, key, pairs = features(40), features(30, 1), some_pairs(count=300)
    rows, columns = pairs[:, 0], torch.arange(3, 30, 2)
    matched = matched_entries(pairs, rows, columns, 30)
    matches = {tuple(pair) for pair in pairs.tolist()}
    expected = [
        (r, c)
        for r, row in enumerate(rows.tolist())
        for c, column in enumerate(columns.tolist())
        if (row, column) in matches
    ]
    assert sorted(map(tuple, matched.tolist())) == expected
    index = hardest_negative(query[rows], key[columns], matched)
    similarity = query[rows] @ key[columns].t()
    similarity[tuple(matched.t())] = -torch.inf
    assert torch.equal(index, similarity.argmax(1))


def test_where_all_match_there_is_no_negative():
    query, key = features(2), features(2, 1)
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    every = torch.arange(2)
    matched = matched_entries(pairs, every, every, 2)
    assert hardest_negative(query, key, matched).tolist() == [-1, -1]
    loss = HardestContrastiveLoss()(query, key, pairs)
    unit = torch.nn.functional.normalize
    apart = (unit(query)[pairs[:, 0]] - unit(key)[pairs[:, 1]]).norm(dim=1)
    assert loss == pytest.approx(float((apart - 0.1).relu().square().mean()))


def test_info_nce_by_hand():
    query = torch.tensor([[1.0, 0], [0, 2]], dtype=torch.float64)
    key = torch.tensor([[3.0, 0], [0, 1]], dtype=torch.float64)
    loss = point_info_nce(query, key, temperature=0.5)
    assert loss == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-9)
    swapped = point_info_nce(query, key.flip(0), temperature=0.5)
    assert swapped == pytest.approx(math.log(1 + math.exp(2)), rel=1e-9)


def test_info_nce_of_alike_features_is_log_of_their_number():
    same = torch.ones(50, 8)
    assert point_info_nce(same, same) == pytest.approx(math.log(50), rel=1e-5)
    # rows of one point are no negatives: as if there were 5 different ones
    index = torch.arange(50) // 10
    assert point_info_nce(same, same, index) == pytest.approx(math.log(41), rel=1e-5)


def test_one_match_each_is_uniform_over_a_points_matches():
    pairs = torch.tensor([[3, 0], [1, 5], [3, 1], [3, 2], [0, 0]])
    generator = torch.Generator().manual_seed(0)
    seen = torch.zeros(5)
    for _ in range(600):
        rows = one_match_each(pairs, generator)
        assert pairs[rows, 0].tolist() == [0, 1, 3]
        seen[rows] += 1
    assert seen[1] == seen[4] == 600
    assert seen[[0, 2, 3]].min() > 150


@pytest.mark.parametrize("loss", LOSS_TYPES, ids=lambda loss: type(loss).__name__)
def test_gradient(loss):
    query, key = features(12).requires_grad_(), features(9, 1).requires_grad_()
    pairs = some_pairs(12, 9, 14)
    # one match a point, so that nothing is drawn
    pairs = pairs[one_match_each(pairs)]
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, pairs), (query, key))


@pytest.mark.parametrize("loss", LOSS_TYPES, ids=lambda loss: type(loss).__name__)
def test_points_and_pairs_may_be_permuted(loss):
    query, key = features(40), features(30, 1)
    pairs = some_pairs()
    pairs = pairs[one_match_each(pairs)]
    generator = torch.Generator().manual_seed(3)
    p, q, r = (torch.randperm(n, generator=generator) for n in (40, 30, len(pairs)))
    moved = torch.stack([torch.argsort(p)[pairs[:, 0]], torch.argsort(q)[pairs[:, 1]]])
    torch.testing.assert_close(
        loss(query, key, pairs), loss(query[p], key[q], moved.t()[r])
    )


@pytest.mark.parametrize("name", ["HardestContrastiveLoss", "PointInfoNCELoss"])
@pytest.mark.parametrize(
    ("query", "key", "pairs"),
    [
        (torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, 2).long()),
        (torch.ones(5, 4), torch.ones(3, 4), torch.zeros(0, 2).long()),
        (torch.ones(1, 4), torch.ones(1, 4), torch.zeros(1, 2).long()),
        (torch.ones(5, 4), torch.ones(5, 4), torch.arange(5)[:, None].repeat(1, 2)),
        (torch.zeros(5, 4), torch.zeros(5, 4), torch.arange(5)[:, None].repeat(1, 2)),
        (torch.full((5, 4), 1e30), torch.full((5, 4), 1e-30), torch.zeros(1, 2).long()),
    ],
    ids=["empty", "no match", "single", "alike", "zero", "huge and tiny"],
)
def test_degenerate_input_is_finite(name, query, key, pairs):
    loss = LOSSES.build({"type": name})
    query, key = query.clone().requires_grad_(), key.clone().requires_grad_()
    value = loss(query, key, pairs)
    gradients = torch.autograd.grad(value, (query, key))
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if not len(pairs):
        assert value == 0
        assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("name", ["HardestContrastiveLoss", "PointInfoNCELoss"])
def test_autocast_changes_nothing(name):
    query, key, pairs = features(60).float(), features(50, 1).float(), some_pairs()
    loss = LOSSES.build({"type": name})
    plain = loss(query, key, pairs, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(query, key, pairs, torch.Generator().manual_seed(0))
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(plain, mixed)
    half = loss(query.bfloat16(), key.bfloat16(), pairs)
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    "loss",
    [
        HardestContrastiveLoss(num_pairs=20, num_negatives=10, loss_weight=2.0),
        PointInfoNCELoss(num_pairs=20, loss_weight=2.0),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_the_generator_decides_what_is_drawn(loss):
    query, key, pairs = features(200), features(200, 1), some_pairs(200, 200, 500)
    a, b, c = (
        loss(query, key, pairs, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert a == b
    assert a != c


def test_a_subset_of_candidates_is_an_upper_bound_on_distance():
    """Fewer candidates are less hard: the loss can only fall."""
    query, key, pairs = features(60), features(60, 1), some_pairs(60, 60, 80)
    every, some = torch.arange(60), torch.arange(0, 60, 3)
    full = hardest_contrastive(query, key, pairs, torch.arange(80), every, every)
    part = hardest_contrastive(query, key, pairs, torch.arange(80), some, some)
    assert part < full


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(type="HardestContrastiveLoss", positive_margin=2), "margins must be"),
        (dict(type="PointInfoNCELoss", temperature=0), "temperature must be positive"),
    ],
)
def test_bad_options_are_one_line(config, message):
    with pytest.raises(UserError, match=message):
        LOSSES.build(config)
