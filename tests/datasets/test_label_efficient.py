"""Few labels: how many, the same every time, nested, and kept through sampling."""

import itertools
import pickle

import numpy as np
import pytest

from pointins_plugin.datasets.label_efficient import sample_points, sample_scenes
from pointins_plugin.errors import UserError
from pointins_plugin.host import build_dataset


def test_scenes_are_nested_and_seeded():
    shares = (0.01, 0.05, 0.1, 0.2, 1.0)
    splits = [set(sample_scenes(1201, share).tolist()) for share in shares]
    assert [len(split) for split in splits] == [12, 60, 120, 240, 1201]
    for small, large in itertools.pairwise(splits):
        assert small <= large
    assert set(sample_scenes(1201, 0.1).tolist()) == splits[2]
    assert set(sample_scenes(1201, 0.1, seed=1).tolist()) != splits[2]
    assert len(sample_scenes(10, 0.01)) == 1


def test_points_are_labelled_nested_and_the_scenes_own():
    segment = np.where(np.arange(1000) % 4 == 0, -1, 2)
    few, more = (sample_points(segment, amount, "a") for amount in (0.01, 0.1))
    assert (len(few), len(more)) == (8, 75)
    assert set(few) <= set(more)
    assert (segment[more] == 2).all()
    assert set(sample_points(segment, 75, "a")) == set(more)
    assert set(sample_points(segment, 75, "b")) != set(more)
    assert set(sample_points(segment, 75, "a", seed=1)) != set(more)
    assert len(sample_points(segment, 5000, "a")) == 750
    assert len(sample_points(np.full(3, -1), 0.5, "a")) == 0


def rooms(**options):
    return build_dataset(
        dict(
            type="LabelEfficientDataset",
            base="RoomsDataset",
            split="train",
            num_scenes=4,
            angular_step=4.0,
            **options,
        )
    )


def test_scenes_of_a_dataset():
    whole, half = rooms(), rooms(scenes=0.5, loop=3)
    assert len(whole) == 4
    assert len(half) == 6
    names = {half[index]["name"] for index in range(6)}
    assert len(names) == 2
    assert half.get_data_name(0) in names


def test_points_of_a_dataset_survive_sampling():
    grid = dict(type="GridSample", grid_size=0.3, mode="train")
    data = rooms(points=20, transform=[grid])[0]
    again = rooms(points=20, transform=[grid])[0]
    assert (data["segment"] != -1).sum() == 20
    assert (data["instance"][data["segment"] == -1] == -1).all()
    assert len(data["coord"]) > 100
    np.testing.assert_array_equal(
        np.unique(data["coord"][data["segment"] != -1], axis=0),
        np.unique(again["coord"][again["segment"] != -1], axis=0),
    )
    copy = pickle.loads(pickle.dumps(rooms(points=0.01, transform=[])))
    assert 0 < (copy[0]["segment"] != -1).mean() < 0.02


def test_refusals():
    for options in ({"scenes": 0.0}, {"scenes": 2}, {"points": 0}, {"points": 1.5}):
        with pytest.raises(UserError, match="give a share in"):
            rooms(**options)
    with pytest.raises(UserError, match="cannot choose scenes of ConcatDataset"):
        build_dataset(
            dict(type="LabelEfficientDataset", base="ConcatDataset", datasets=[])
        )
    with pytest.raises(UserError, match="has no option 'num_scene'"):
        build_dataset(
            dict(type="LabelEfficientDataset", base="RoomsDataset", num_scene=1)
        )
