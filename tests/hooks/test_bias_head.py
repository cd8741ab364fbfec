"""The bias head that starts as an offset head."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from pointins_plugin.errors import UserError
from pointins_plugin.hooks.bias_head import OffsetWeights, init_bias_head


def weights(inputs=12, hidden=16, unit=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return OffsetWeights(
        draw(hidden, inputs), draw(hidden), draw(3, hidden), draw(3), unit
    )


def bias_head(channels):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(channels, channels),
        nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01),
        nn.ReLU(),
        nn.Linear(channels, 3),
    )


def offsets(head, feature):
    hidden = F.gelu(F.linear(feature, head.first, head.first_bias))
    return head.unit * F.linear(hidden, head.last, head.last_bias)


def test_it_predicts_what_the_offset_head_predicts():
    """Features of two finer levels stand before those the offset head was made for."""
    torch.manual_seed(1)
    head, net, feature = weights(), bias_head(20), torch.randn(4000, 20)
    r2 = init_bias_head(net, head, 12, feature)
    assert r2 > 0.97
    torch.manual_seed(2)
    fresh = torch.randn(2000, 20)
    truth = offsets(head, fresh[:, 8:])
    spread = (truth - truth.mean(0)).square().sum()
    for mode in (True, False):
        found = net.train(mode)(fresh)
        assert 1 - (found - truth).square().sum() / spread > 0.95


def test_positions_are_left_out_at_their_mean():
    torch.manual_seed(1)
    head = weights(inputs=18)
    net, feature = bias_head(20), torch.randn(4000, 20)
    init_bias_head(net, head, 12, feature)
    truth = offsets(head, torch.cat([feature[:, 8:], torch.zeros(4000, 6)], 1))
    found = net.eval()(feature)
    spread = (truth - truth.mean(0)).square().sum()
    assert 1 - (found - truth).square().sum() / spread > 0.95


def test_which_inputs_are_features():
    channels = (4, 8, 12, 16)
    assert weights(40).feature_columns(channels, 40) == 40
    assert weights(28).feature_columns(channels, 40) == 28
    assert weights(28 + 3).feature_columns(channels, 40) == 28
    assert weights(40 + 9).feature_columns(channels, 40) == 40
    assert weights(7).feature_columns((), 7) == 7
    with pytest.raises(UserError, match="was trained on 28 inputs, the bias head sees"):
        weights(28).feature_columns(channels, 64)


def test_read_from_a_checkpoint():
    head = weights()
    state = {
        "module.student.offset_head.mlp.0.weight": head.first,
        "module.student.offset_head.mlp.0.bias": head.first_bias,
        "module.student.offset_head.mlp.2.weight": head.last,
        "module.student.offset_head.mlp.2.bias": head.last_bias,
        "module.offset_branch.prior.magnitude_prior": torch.linspace(0, 2, 1001),
    }
    read = OffsetWeights.of(state, "student", "x.pth")
    assert read.unit == pytest.approx(1)
    assert torch.equal(read.last, head.last)
    with pytest.raises(UserError, match=r"x\.pth has no teacher\.offset_head"):
        OffsetWeights.of(state, "teacher", "x.pth")


def test_refusals():
    with pytest.raises(UserError, match="has 16 hidden units, the bias head only 8"):
        init_bias_head(bias_head(8), weights(8), 8, torch.zeros(5, 8))
    with pytest.raises(UserError, match="hold no points"):
        init_bias_head(bias_head(20), weights(), 12, torch.zeros(0, 20))
    same = init_bias_head(bias_head(20), weights(), 12, torch.ones(5, 20))
    assert same == same  # finite on identical features
