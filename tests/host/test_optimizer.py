"""Optimizers: parameter groups by keyword."""

import logging

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import get_root_logger
from pointins_plugin.host.standalone.optimizer import build_optimizer


@pytest.fixture
def net():
    net = nn.ModuleDict(
        {
            "embedding": nn.Linear(2, 2),
            "block": nn.Linear(2, 2),
            "head": nn.Linear(2, 1),
        }
    )
    net["head"].bias.requires_grad_(False)
    return net


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "Muon_KIMI"])
def test_one_group_without_keywords(net, kind):
    optimizer = build_optimizer({"type": kind, "lr": 0.5}, net)
    assert type(optimizer).__name__ == kind.replace("_", "")
    assert [len(g["params"]) for g in optimizer.param_groups] == [6]


def test_first_keyword_wins_and_the_rest_comes_first(net):
    groups = [
        {"keyword": "block", "lr": 0.1, "weight_decay": 0.2},
        {"keyword": "b", "lr": 0.3},
        {"keyword": "head.weight", "momentum": 0.9},
    ]
    cfg = {"type": "SGD", "lr": 1.0, "momentum": 0.5}
    rest, block, bias, head = build_optimizer(cfg, net, groups).param_groups
    assert block["params"] == list(net["block"].parameters())
    assert (block["lr"], block["weight_decay"], block["momentum"]) == (0.1, 0.2, 0.5)
    # "b" is in "embedding" and in every "bias"; frozen ones are left out
    assert bias["params"] == list(net["embedding"].parameters())
    assert head["params"] == [net["head"].weight]
    assert (head["lr"], head["momentum"]) == (1.0, 0.9)
    assert rest["params"] == []
    assert cfg == {"type": "SGD", "lr": 1.0, "momentum": 0.5}


@pytest.mark.parametrize(
    ("keyword", "freeze", "level", "text"),
    [
        ("blok", (), "WARNING", "*blok*: 0, lr 0.1"),
        ("block", ("block",), "INFO", "*block*: 0, all are frozen"),
        ("head", (), "INFO", "*head*: 1, lr 0.1"),
    ],
)
def test_keyword_that_names_nothing_is_a_warning(net, keyword, freeze, level, text):
    """Of a frozen backbone nothing is trained, as it should be."""
    for name in freeze:
        net[name].requires_grad_(False)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    get_root_logger().addHandler(handler)
    try:
        groups = [{"keyword": keyword, "lr": 0.1}]
        build_optimizer({"type": "AdamW", "lr": 1.0}, net, groups)
    finally:
        get_root_logger().removeHandler(handler)
    (record,) = records
    assert record.levelname == level
    assert record.getMessage().endswith(text)


def test_muon_makes_updates_orthogonal_and_leaves_vectors_to_adamw():
    """One step from zero: matrices move by .2 sqrt(max) U V^T, vectors by the sign."""
    wide = nn.Linear(6, 3)
    nn.init.zeros_(wide.weight)
    nn.init.zeros_(wide.bias)
    optimizer = build_optimizer({"type": "Muon_KIMI", "lr": 0.5}, wide)
    torch.manual_seed(0)
    wide.weight.grad, wide.bias.grad = torch.randn(3, 6), torch.tensor([2.0, -3, 0])
    u, _, v = torch.linalg.svd(wide.weight.grad, full_matrices=False)
    optimizer.step()
    turned = u.T @ wide.weight.detach() @ v.T / (-0.5 * 0.2 * 6**0.5)
    assert ((turned.diagonal() > 0.6) & (turned.diagonal() < 1.3)).all()
    assert (turned - turned.diagonal().diag()).abs().max() < 0.05
    torch.testing.assert_close(wide.bias.detach(), torch.tensor([-0.5, 0.5, 0.0]))


def test_muon_learns_with_kernels_decay_and_forced_groups():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(8, 1))
    groups = [{"keyword": "2.", "force_adamw": True, "weight_decay": 0.5}]
    cfg = {"type": "Muon_KIMI", "lr": 0.02, "weight_decay": 0.0}
    optimizer = build_optimizer(cfg, net, groups)
    x = torch.randn(16, 2, 4)
    y = x.sum((1, 2))
    losses = []
    for _ in range(60):
        loss = (net(x)[:, 0] - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    states = [set(optimizer.state[p]) for p in net.parameters()]
    adamw = {"step", "moment1", "moment2"}
    assert states == [{"momentum_buffer"}, adamw, adamw, adamw]


def test_unknown_option_is_refused(net):
    with pytest.raises(UserError, match=r"AdamW has no option 'weight_decoy'"):
        build_optimizer({"type": "AdamW", "weight_decoy": 1}, net)
