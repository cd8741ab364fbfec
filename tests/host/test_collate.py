"""Batches: cumulative counts, views, and mixed scenes."""

import random

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import collate_fn, point_collate_fn


def sample(n, name, start=0.0):
    return {
        "coord": torch.arange(start, start + 3 * n).view(n, 3),
        "segment": torch.arange(n),
        "instance": torch.arange(n) - 1,
        "offset": torch.tensor([n]),
        "name": name,
    }


def test_entries_are_joined_and_counts_become_cumulative():
    batch = collate_fn([sample(2, "a"), sample(3, "b")])
    assert batch["offset"].tolist() == [2, 5]
    assert batch["coord"].shape == (5, 3)
    assert batch["segment"].tolist() == [0, 1, 0, 1, 2]
    assert batch["name"] == ["a", "b"]


def test_views_of_samples_follow_each_other():
    one = {"global_offset": torch.tensor([2, 5]), "global_affine": torch.eye(4)[None]}
    two = {"global_offset": torch.tensor([1, 4]), "global_affine": torch.eye(4)[None]}
    batch = collate_fn([one, two])
    assert batch["global_offset"].tolist() == [2, 5, 6, 9]
    assert batch["global_affine"].shape == (2, 4, 4)


def test_other_kinds_of_samples():
    pair = (torch.zeros(2, 3), torch.ones(2)), (torch.ones(1, 3), torch.ones(1))
    batch = collate_fn(pair)
    assert batch[0].shape == (3, 3)
    assert batch[-1].tolist() == [2, 3]
    assert collate_fn([[1, 2], [3]]).tolist() == [1, 2, 3]
    assert collate_fn([{"x": 1.5}, {"x": 2.5}])["x"].tolist() == [1.5, 2.5]
    with pytest.raises(TypeError, match="a batch is a sequence"):
        collate_fn(torch.zeros(2))


def test_samples_of_different_entries_are_one_line():
    lacking = {key: value for key, value in sample(2, "b").items() if key != "segment"}
    with pytest.raises(UserError, match=r"some samples have \['segment'\], others"):
        collate_fn([sample(2, "a"), lacking])


def test_mixing_joins_pairs_and_renumbers_instances():
    scenes = [sample(n, str(n)) for n in (2, 3, 4)]
    batch = point_collate_fn(scenes, mix_prob=1.0)
    # the odd scene out stays alone
    assert batch["offset"].tolist() == [5, 9]
    # instances 0 of the first scene, then 0 and 1 of the second, counted on
    assert batch["instance"].tolist() == [-1, 0, -1, 1, 2, -1, 0, 1, 2]
    assert batch["coord"].shape == (9, 3)


def test_mixing_happens_with_its_probability():
    random.seed(0)
    scenes = [sample(2, "a"), sample(2, "b")]
    mixed = [len(point_collate_fn(scenes, 0.8)["offset"]) == 1 for _ in range(1000)]
    assert abs(np.mean(mixed) - 0.8) < 0.04
    assert len(point_collate_fn(scenes, 0)["offset"]) == 2


def test_mixed_scenes_share_a_grid():
    scenes = []
    for start in (0.0, 1.0):
        coord = torch.tensor([[start, 0.0, 0.0], [start + 0.5, 0.0, 0.0]])
        grid = torch.tensor([[0, 0, 0], [5, 0, 0]])
        scenes.append(
            {
                "coord": coord,
                "grid_coord": grid,
                "offset": torch.tensor([2]),
                "grid_size": 0.1,
            }
        )
    batch = point_collate_fn(scenes, mix_prob=1.0)
    assert batch["grid_coord"][:, 0].tolist() == [0, 5, 10, 15]


def test_views_are_not_mixed():
    scenes = [{"global_offset": torch.tensor([1, 2])}] * 2
    with pytest.raises(UserError, match="set mix_prob = 0"):
        point_collate_fn(scenes, mix_prob=1.0)
