"""PointContrast's losses as an objective of the trunk: values, matches, gradients."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_scenes import BACKBONE, PRIOR, batch

from pointins_plugin.host import build_model
from pointins_plugin.models.objectives import ContrastObjective, Match

NCE = {"type": "PointInfoNCELoss", "temperature": 0.5, "num_pairs": None}
HARDEST = {"type": "HardestContrastiveLoss"}
BRANCH = {
    "prior": PRIOR,
    "hidden_channels": 32,
    "odr": {"type": "ODRLoss"},
    "scr": {"type": "SCRLoss", "num_segments": 4},
}


def identity(objective):
    """Return heads that contrast the features themselves."""
    heads = torch.nn.ModuleDict(objective.build_heads(2))
    torch.nn.init.eye_(heads["contrast_head"].weight)
    torch.nn.init.zeros_(heads["contrast_head"].bias)
    return heads


def losses(objective, heads, feature, teacher, student_rows, teacher_rows, batch=None):
    match = Match(
        torch.tensor(student_rows, dtype=torch.long),
        torch.tensor(teacher_rows, dtype=torch.long),
        torch.tensor(batch or [0] * len(student_rows), dtype=torch.long),
    )
    outputs = objective.teacher_outputs(heads, teacher)
    return objective(heads, feature, outputs, None, match, 1)


def test_value_by_hand():
    """Two matches of orthogonal features, one way: log(1 + exp(-1 / t)) each."""
    objective = ContrastObjective(NCE, embed_channels=2)
    feature = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    teacher = torch.tensor([[0.0, 5.0], [0.5, 0.0]])
    output = losses(objective, identity(objective), feature, teacher, [0, 1], [1, 0])
    # half, because no token of the second view has a match
    expected = 0.5 * torch.log1p(torch.exp(torch.tensor(-2.0)))
    torch.testing.assert_close(output["semantic_loss"], expected)
    torch.testing.assert_close(output["cross_view_loss"], expected)


@pytest.mark.parametrize("loss", [NCE, HARDEST], ids=["nce", "hardest"])
def test_a_place_in_its_own_view_is_no_negative(loss):
    """Views of one scene alike to the last digit: nothing is left but other places."""
    objective = ContrastObjective(loss, embed_channels=2)
    place = torch.eye(2)  # two places, seen in two views
    feature = torch.cat([place, place])
    rows, other, batch = [0, 1, 2, 3], [2, 3, 0, 1], [0, 0, 1, 1]
    found = losses(
        objective, identity(objective), feature, feature, rows, other, batch
    )["semantic_loss"]
    one_way = losses(objective, identity(objective), place, place, [0, 1], [0, 1])
    torch.testing.assert_close(found, 2 * one_way["semantic_loss"])


def test_either_view_counts_half():
    """By hand: the first view's tokens know their places, the second's mix them up."""
    objective = ContrastObjective(NCE, embed_channels=2)
    feature = torch.cat([torch.eye(2), torch.eye(2).flip(0)])
    teacher = torch.cat([torch.eye(2), torch.eye(2)])
    rows, other, batch = [0, 1, 2, 3], [2, 3, 0, 1], [2, 2, 3, 3]
    found = losses(
        objective, identity(objective), feature, teacher, rows, other, batch
    )["semantic_loss"]
    right, wrong = (torch.log1p(torch.exp(torch.tensor(x))) for x in (-2.0, 2.0))
    torch.testing.assert_close(found, (right + wrong) / 2)


def test_tokens_of_one_place_are_no_negatives_of_each_other():
    """Two student tokens fall on one teacher token: nothing is left to tell apart."""
    objective = ContrastObjective(NCE, embed_channels=2)
    feature = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[1.0, 1.0]])
    output = losses(objective, identity(objective), feature, teacher, [0, 1], [0, 0])
    assert output["semantic_loss"].abs() < 1e-6


@pytest.mark.parametrize("loss", [NCE, HARDEST], ids=["nce", "hardest"])
def test_the_order_of_matches_does_not_matter(loss):
    objective = ContrastObjective({**loss, "num_pairs": None}, embed_channels=2)
    heads = identity(objective)
    feature, teacher = torch.randn(6, 2), torch.randn(5, 2)
    rows, other = [0, 2, 3, 5], [1, 0, 4, 2]
    first = losses(objective, heads, feature, teacher, rows, other)
    second = losses(objective, heads, feature, teacher, rows[::-1], other[::-1])
    torch.testing.assert_close(first["semantic_loss"], second["semantic_loss"])


@pytest.mark.parametrize("loss", [NCE, HARDEST], ids=["nce", "hardest"])
def test_without_matches_it_is_zero_with_a_gradient(loss):
    objective = ContrastObjective(loss, embed_channels=2)
    heads = identity(objective)
    output = losses(objective, heads, torch.randn(3, 2), torch.randn(3, 2), [], [])
    assert output["semantic_loss"] == 0
    output["semantic_loss"].backward()
    assert heads["contrast_head"].weight.grad.abs().sum() == 0


def test_draws_follow_the_steps_seed():
    objective = ContrastObjective({**NCE, "num_pairs": 3}, embed_channels=2)
    heads = identity(objective)
    feature, teacher = torch.randn(9, 2), torch.randn(9, 2)
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        rows = list(range(9))
        output = losses(objective, heads, feature, teacher, rows, rows)
        values.append(output["semantic_loss"].item())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("loss", [NCE, HARDEST], ids=["nce", "hardest"])
@pytest.mark.parametrize("branch", [None, BRANCH], ids=["alone", "branch"])
def test_the_trunk_takes_a_step_with_it(branch, loss):
    torch.manual_seed(0)
    semantic = {"type": "ContrastObjective", "loss": loss, "embed_channels": 8}
    net = build_model(
        {
            "type": "PointINS",
            "backbone": BACKBONE,
            "semantic": semantic,
            "offset_branch": branch,
            "match_max_r": 0.1,
        }
    )
    net.train()
    net.set_progress(0.5)
    output = net(copy.deepcopy(batch()))
    assert output["semantic_loss"] > 0
    assert all(torch.isfinite(value) for value in output.values())
    output["loss"].backward()
    # every parameter that learns takes part, or several processes would hang
    for name, parameter in net.student.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
    assert net.student["contrast_head"].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in net.teacher.parameters())


def test_a_few_steps_find_places():
    """From chance, the log of the number of places, the loss falls by half a nat."""
    torch.manual_seed(0)
    net = build_model(
        {
            "type": "PointINS",
            "backbone": BACKBONE,
            "semantic": {"type": "ContrastObjective", "loss": NCE},
            "match_max_r": 0.1,
        }
    )
    net.train()
    net.set_progress(0.5)
    optimizer = torch.optim.AdamW(net.student.parameters(), lr=0.003)
    data, found = batch(), []
    for _ in range(30):
        torch.manual_seed(0)  # the same masks: what changes is the network
        loss = net(copy.deepcopy(data))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mine, slow in zip(
                net.student.parameters(), net.teacher.parameters(), strict=True
            ):
                slow.lerp_(mine, 0.1)
        found.append(loss.item())
    assert found[-1] < found[0] - 0.5
