"""Optimizers: parameter groups by keyword."""

import logging

import pytest
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


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_one_group_without_keywords(net, kind):
    optimizer = build_optimizer({"type": kind, "lr": 0.5}, net)
    assert type(optimizer).__name__ == kind
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


def test_keyword_that_names_nothing_is_a_warning(net):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    get_root_logger().addHandler(handler)
    try:
        groups = [{"keyword": "blok", "lr": 0.1}]
        build_optimizer({"type": "AdamW", "lr": 1.0}, net, groups)
    finally:
        get_root_logger().removeHandler(handler)
    warnings = [r.getMessage() for r in records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "*blok*: 0" in warnings[0]


def test_unknown_option_is_refused(net):
    with pytest.raises(UserError, match=r"AdamW has no option 'weight_decoy'"):
        build_optimizer({"type": "AdamW", "weight_decoy": 1}, net)
