"""Proposals: groups of one class and cloud, their scores, nothing to group."""

import pytest
import torch

from pointins_plugin.ops.proposals import propose_instances


def scene():
    """Three piles of 20 points: two chairs that touch a table, and floor."""
    generator = torch.Generator().manual_seed(0)
    piles = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.01, 0, 0], [0.5, 0, 0]])
    centers = piles.repeat_interleave(20, 0)
    centers = centers + 0.002 * torch.randn(80, 3, generator=generator)
    classes = torch.tensor([1, 1, 2, 0]).repeat_interleave(20)
    probability = torch.full((80, 3), 0.1)
    probability[torch.arange(80), classes] = 0.8
    probability[0, 1] = 0.4
    return centers, probability


@pytest.mark.parametrize("method", ["components", "modes"])
def test_one_proposal_a_pile_of_one_class(method):
    centers, probability = scene()
    found = propose_instances(
        centers, probability, (-1, 0), method=method, radius=0.03, min_size=5
    )
    expected = torch.tensor([0, 1, 2, -1]).repeat_interleave(20)
    assert found.label.tolist() == expected.tolist()
    assert found.classes.tolist() == [1, 1, 2]
    torch.testing.assert_close(found.scores, torch.tensor([0.78, 0.8, 0.8]))
    assert found.masks().shape == (3, 80)
    assert found.masks().sum(1).tolist() == [20, 20, 20]


@pytest.mark.parametrize("method", ["components", "modes"])
def test_clouds_are_apart_and_small_groups_dropped(method):
    centers, probability = scene()
    batch = (torch.arange(80) % 20 >= 12).long()
    found = propose_instances(
        centers, probability, (0,), batch, method=method, radius=0.03, min_size=10
    )
    assert len(found.classes) == 3
    assert found.masks().sum(1).tolist() == [12, 12, 12]
    both = propose_instances(centers, probability, (0,), batch, method, radius=0.03)
    assert len(both.classes) == 6


@pytest.mark.parametrize("method", ["components", "modes"])
def test_no_thing_gives_no_proposal(method):
    centers, probability = scene()
    for rows in (slice(60, 80), slice(0, 0)):
        found = propose_instances(
            centers[rows], probability[rows], (-1, 0, 9), method=method
        )
        assert found.label.tolist() == [-1] * len(centers[rows])
        assert len(found.classes) == len(found.scores) == 0
        assert found.masks().shape == (0, len(centers[rows]))


def test_a_pile_of_more_than_a_thousand_duplicates_is_one():
    centers = torch.zeros(5000, 3)
    probability = torch.tensor([[0.0, 1.0]]).expand(5000, 2)
    found = propose_instances(centers, probability, (0,), radius=0.01)
    assert found.classes.tolist() == [1]


def test_unknown_method():
    with pytest.raises(ValueError, match="grouping must be one of"):
        propose_instances(*scene(), (0,), method="hdbscan")
