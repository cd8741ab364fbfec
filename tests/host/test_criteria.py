"""Losses of segmentation: known values, an oracle, degenerate input, gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pointins_plugin.errors import UserError
from pointins_plugin.host import LOSSES, build_criteria
from pointins_plugin.host.standalone.criteria import (
    dice_loss,
    focal_loss,
    lovasz_hinge,
    lovasz_softmax,
)


def draw(n=40, c=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, c, generator=generator)
    target = torch.randint(-1, c, (n,), generator=generator)
    return logits, target


def jaccard_extension(error, foreground):
    """Lovasz extension by its definition: a sum over nested sets of mispredictions."""
    order = np.argsort(-error, kind="stable")
    value, before = 0.0, 0.0
    for count in range(1, len(order) + 1):
        wrong = np.zeros(len(order), bool)
        wrong[order[:count]] = True
        missed = (foreground & wrong).sum()
        extra = (~foreground & wrong).sum()
        loss = 1 - (foreground.sum() - missed) / (foreground.sum() + extra)
        value += error[order[count - 1]] * (loss - before)
        before = loss
    return value


def test_lovasz_softmax_is_the_extension_of_the_jaccard_loss():
    logits, target = draw()
    loss = LOSSES.build(dict(type="LovaszLoss", mode="multiclass", ignore_index=-1))
    probability = logits.softmax(1).double().numpy()[target.numpy() >= 0]
    label = target.numpy()[target.numpy() >= 0]
    expected = []
    for k in np.unique(label):
        foreground = label == k
        error = np.abs(foreground - probability[:, k])
        expected.append(jaccard_extension(error, foreground))
    assert float(loss(logits, target)) == pytest.approx(np.mean(expected), abs=1e-6)


def test_lovasz_by_hand_and_at_the_corners():
    probability = torch.eye(3)[torch.tensor([0, 1, 2, 2])]
    assert float(lovasz_softmax(probability, torch.tensor([0, 1, 2, 2]))) == 0
    # class 2 wholly missed and class 0 wholly wrong: Jaccard losses 1, 1/2 and 0
    value = lovasz_softmax(
        torch.eye(3)[torch.tensor([0, 0, 1])], torch.tensor([0, 2, 1])
    )
    assert float(value) == pytest.approx((0.5 + 1 + 0) / 3)
    assert float(lovasz_hinge(torch.tensor([2.0, -2.0]), torch.tensor([1, 0]))) == 0
    assert float(lovasz_hinge(torch.tensor([0.0]), torch.tensor([1]))) == 1


def test_lovasz_options():
    logits, target = draw()

    def build(**o):
        return LOSSES.build(dict(type="LovaszLoss", ignore_index=-1, **o))

    one = build(mode="multiclass", class_seen=[1])(logits, target)
    valid = target >= 0
    only = lovasz_softmax(logits.softmax(1)[valid], target[valid], [1])
    torch.testing.assert_close(one, only)
    half = build(mode="multiclass", loss_weight=0.5)(logits, target)
    torch.testing.assert_close(2 * half, build(mode="multiclass")(logits, target))
    image = torch.randn(2, 3, 4, 4)
    label = torch.randint(0, 3, (2, 4, 4))
    split = build(mode="multiclass", per_image=True)(image, label)
    parts = [
        build(mode="multiclass")(image[i : i + 1], label[i : i + 1]) for i in (0, 1)
    ]
    torch.testing.assert_close(split, torch.stack(parts).mean())
    for mode in ("binary", "multilabel"):
        value = build(mode=mode)(image, torch.randint(0, 2, image.shape))
        assert torch.isfinite(value)
    with pytest.raises(UserError, match="use one of binary"):
        build(mode="multi")


def test_cross_entropy_is_torchs():
    logits, target = draw()
    for options in ({}, {"label_smoothing": 0.1}, {"weight": [1.0, 2, 3, 4, 5]}):
        loss = LOSSES.build(dict(type="CrossEntropyLoss", loss_weight=2.0, **options))
        if "weight" in options:
            options = {"weight": torch.tensor(options["weight"])}
        expected = 2 * F.cross_entropy(logits, target, ignore_index=-1, **options)
        torch.testing.assert_close(loss(logits, target), expected)
    total = LOSSES.build(dict(type="CrossEntropyLoss", reduction="sum"))
    torch.testing.assert_close(
        total(logits, target),
        F.cross_entropy(logits, target, ignore_index=-1, reduction="sum"),
    )


def test_smooth_cross_entropy_by_hand():
    logits = torch.tensor([[2.0, 0, 0], [5.0, 1, 1]])
    loss = LOSSES.build(dict(type="SmoothCELoss", smoothing_ratio=0.2))
    log = logits.log_softmax(1)[0]
    expected = -(0.8 * log[0] + 0.1 * log[1] + 0.1 * log[2])
    torch.testing.assert_close(loss(logits, torch.tensor([0, -1])), expected)


def test_focal_without_focus_is_half_the_binary_cross_entropy():
    logits, target = draw()
    valid = target >= 0
    onehot = F.one_hot(target[valid], 5).float()
    expected = 0.5 * F.binary_cross_entropy_with_logits(logits[valid], onehot)
    loss = LOSSES.build(dict(type="FocalLoss", gamma=0.0))
    torch.testing.assert_close(loss(logits, target), expected)
    plain = LOSSES.build(dict(type="BinaryFocalLoss", gamma=2.0, alpha=0.3))
    x, y = logits[:, 0], (target > 2).float()
    torch.testing.assert_close(plain(x, y), focal_loss(x, y, 2.0, 0.3).mean())
    of_probability = LOSSES.build(
        dict(type="BinaryFocalLoss", gamma=2.0, alpha=0.3, logits=False)
    )
    torch.testing.assert_close(of_probability(x.sigmoid(), y), plain(x, y))


def test_dice_by_hand():
    probability = torch.tensor([[1.0, 0], [0.5, 0.5]])
    onehot = torch.tensor([[1.0, 0], [0, 1]])
    # class 0: 2 * 1 / (1.25 + 1), class 1: 2 * .5 / (.25 + 1)
    expected = 1 - (2 / 2.25 + 1 / 1.25) / 2
    assert float(dice_loss(probability, onehot, 0, 2)) == pytest.approx(expected)


ALL = [
    dict(type="CrossEntropyLoss"),
    dict(type="SmoothCELoss"),
    dict(type="FocalLoss"),
    dict(type="DiceLoss"),
    dict(type="LovaszLoss", mode="multiclass", ignore_index=-1),
]


@pytest.mark.parametrize("config", ALL, ids=lambda c: c["type"])
def test_degenerate_input_is_finite(config):
    loss = LOSSES.build(dict(config))
    for n, label in ((0, -1), (1, 2), (1, -1), (7, -1), (7, 0)):
        logits = torch.zeros(n, 5, requires_grad=True)
        value = loss(logits, torch.full((n,), label))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()
        if label == -1:
            assert value == 0


@pytest.mark.parametrize("config", ALL, ids=lambda c: c["type"])
def test_half_precision_is_computed_in_full(config):
    loss = LOSSES.build(dict(config))
    logits, target = draw()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.bfloat16().float(), target))


def test_gradients():
    logits, target = draw(12, 4)
    logits = logits.double().requires_grad_()
    target = target.clamp(min=0, max=3)
    onehot = F.one_hot(target, 4).double()
    assert torch.autograd.gradcheck(
        lambda x: lovasz_softmax(x.softmax(1), target), logits
    )
    assert torch.autograd.gradcheck(lambda x: lovasz_hinge(x[:, 0], target > 1), logits)
    assert torch.autograd.gradcheck(
        lambda x: focal_loss(x, onehot, 2.0, 0.3).sum(), logits
    )
    assert torch.autograd.gradcheck(
        lambda x: dice_loss(x.softmax(1), onehot, 1, 2), logits
    )


def test_criteria_are_summed():
    logits, target = draw()
    both = build_criteria([ALL[0], ALL[4]])
    parts = [LOSSES.build(dict(c))(logits, target) for c in (ALL[0], ALL[4])]
    torch.testing.assert_close(both(logits, target), sum(parts))
