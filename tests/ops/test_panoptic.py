"""Merging of classes and centres: every rule by hand, and invariances."""

import numpy as np
import pytest
import torch

from pointins_plugin.ops.panoptic import merge_panoptic

# classes: 0 road (stuff), 1 car, 2 truck
STUFF = (-1, 0)


def probabilities(classes, sure=0.8, num_classes=3):
    classes = torch.as_tensor(classes)
    rest = (1 - sure) / (num_classes - 1)
    result = torch.full((len(classes), num_classes), rest)
    result[torch.arange(len(classes)), classes] = sure
    return result


def on_a_line(x):
    x = torch.as_tensor(x, dtype=torch.float32)
    return torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], 1)


def test_rules_by_hand():
    #           road  a van, mostly car       a truck   too small
    centers = on_a_line([0, 0.1, 10, 10.1, 10.2, 10.3, 20, 20.1, 30])
    classes = [0, 0, 1, 1, 1, 2, 2, 2, 1]
    found = merge_panoptic(centers, probabilities(classes), STUFF, min_size=2)
    assert found.segment.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 1]
    assert found.instance.tolist() == [-1, -1, 0, 0, 0, 0, 1, 1, -1]
    assert found.classes.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx([(3 * 0.8 + 0.1) / 4, 0.8])


def test_an_even_vote_is_decided_by_probability():
    centers = on_a_line([0, 0.1])
    probability = torch.tensor([[0.1, 0.7, 0.2], [0.1, 0.0, 0.9]])
    assert merge_panoptic(centers, probability, STUFF).classes.tolist() == [2]


def test_many_unsure_votes_beat_few_sure_ones():
    centers = on_a_line([0, 0.1, 0.2])
    probability = torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.0, 0.0, 1.0]])
    assert merge_panoptic(centers, probability, STUFF).classes.tolist() == [1]


@pytest.mark.parametrize("method", ["components", "modes"])
def test_clouds_stay_apart(method):
    centers = on_a_line([0, 0.1, 0, 0.1])
    batch = torch.tensor([0, 0, 1, 1])
    probability = probabilities([1, 1, 2, 2])
    found = merge_panoptic(centers, probability, STUFF, batch, method)
    assert found.instance.tolist() == [0, 0, 1, 1]
    assert found.classes.tolist() == [1, 2]


@pytest.mark.parametrize("classes", [[], [0, 0, 0]])
def test_without_things(classes):
    centers = on_a_line(np.arange(len(classes)))
    probability = probabilities(classes) if classes else torch.zeros(0, 3)
    found = merge_panoptic(centers, probability, STUFF)
    assert found.segment.tolist() == classes
    assert (found.instance == -1).all()
    assert len(found.classes) == len(found.scores) == 0


def test_order_of_points_does_not_matter():
    rng = torch.Generator().manual_seed(0)
    centers = torch.randint(0, 5, (300, 3), generator=rng).float()
    probability = torch.rand(300, 6, generator=rng)
    order = torch.randperm(300, generator=rng)
    one = merge_panoptic(centers, probability, (0, 1))
    two = merge_panoptic(centers[order], probability[order], (0, 1))
    assert torch.equal(one.segment[order], two.segment)
    pairs = torch.unique(torch.stack([one.instance[order], two.instance]), dim=1)
    assert pairs.shape[1] == len(torch.unique(one.instance))


def test_all_points_of_an_instance_have_its_class():
    rng = torch.Generator().manual_seed(1)
    centers = torch.rand(500, 3, generator=rng) * 10
    probability = torch.rand(500, 5, generator=rng)
    found = merge_panoptic(centers, probability, (4,), radius=1.0, min_size=3)
    inside = found.instance >= 0
    assert inside.any()
    assert torch.equal(found.segment[inside], found.classes[found.instance[inside]])
    before = probability.argmax(1)
    assert torch.equal(found.segment[~inside], before[~inside])
    assert torch.bincount(found.instance[inside]).min() >= 3
    assert not torch.isin(found.classes, torch.tensor([4])).any()


def test_unknown_method():
    with pytest.raises(ValueError, match="grouping"):
        merge_panoptic(torch.zeros(1, 3), torch.ones(1, 2), (), method="watershed")
