"""Pairs of partial views: overlap, correspondences, what survives the batch."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pointins_plugin.datasets.rooms import make_room
from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS, Compose, collate_fn
from pointins_plugin.ops.neighbours import pairs_within
from pointins_plugin.transforms.view_pairs import PartialViewPairGenerator

GRID = 0.05
AUGMENT = [
    {"type": "TrackedAffine", "rotate_p": 1.0},
    {"type": "NormalizeColor"},
]


@pytest.fixture(scope="module")
def rooms():
    return [make_room("train", index) for index in (0, 1)]


def pipeline(augment=AUGMENT, grid_in_view=False):
    keys = ["coord", "origin_coord", "color", "normal"]
    if grid_in_view:
        sample = {"type": "GridSample", "grid_size": GRID, "return_grid_coord": True}
        augment = [*augment, {**sample, "mode": "train"}]
        keys.append("grid_coord")
    collected = ["coord", "origin_coord", "offset", "affine"]
    if grid_in_view:
        collected.append("grid_coord")
    return Compose(
        [
            {"type": "GridSample", "grid_size": GRID, "mode": "train"},
            {"type": "Copy", "keys_dict": {"coord": "origin_coord"}},
            {
                "type": "PartialViewPairGenerator",
                "view_keys": keys,
                "global_transform": augment,
            },
            {"type": "ToTensor"},
            {
                "type": "Collect",
                "keys": [f"global_{key}" for key in collected] + ["name"],
                "offset_keys_dict": {},
                "global_feat_keys": ("global_coord", "global_color", "global_normal"),
            },
        ]
    )


def scene(room, name="a"):
    return {**{key: value.copy() for key, value in room.items()}, "name": name}


def views(batch):
    ends = batch["global_offset"].tolist()
    return [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def test_views_overlap_and_correspond_after_augmentation(rooms):
    build = pipeline()
    for seed in range(8):
        np.random.seed(seed)
        sample = build(scene(rooms[seed % 2]))
        first, second = views(sample)
        origin = sample["global_origin_coord"]
        distance, _ = cKDTree(origin[second]).query(origin[first])
        shared = (distance < 1e-6).sum()
        larger = max(len(origin[first]), len(origin[second]))
        assert shared >= 0.3 * larger
        # what the loss takes for matches is the same place in both augmented views
        counts = [torch.tensor([len(origin[view])]) for view in (first, second)]
        pairs = pairs_within(origin[first], origin[second], *counts, GRID, 1)
        assert len(pairs) >= 0.3 * larger
        back = []
        for side, view in enumerate((first, second)):
            matrix = sample["global_affine"][side]
            inverse = torch.linalg.inv(matrix[:3, :3])
            moved = sample["global_coord"][view][pairs[:, side]].double()
            back.append((moved - matrix[:3, 3]) @ inverse.t())
        assert (back[0] - back[1]).norm(dim=1).max() <= GRID + 1e-4


def test_a_batch_keeps_the_views_apart(rooms):
    np.random.seed(0)
    build = pipeline(grid_in_view=True)
    samples = [build(scene(room, name)) for room, name in zip(rooms, "ab", strict=True)]
    batch = collate_fn(samples)
    assert len(batch["global_offset"]) == 4
    assert batch["global_affine"].shape == (4, 4, 4)
    assert not [key for key in batch if "offset" in key and key != "global_offset"]
    for view in views(batch):
        cells = batch["global_grid_coord"][view]
        assert len(torch.unique(cells, dim=0)) == len(cells) > 300
        assert cells.min() == 0


def test_the_seed_replays_a_pair(rooms):
    build = pipeline()
    samples = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        samples.append(build(scene(rooms[0])))
    for key in ("global_coord", "global_feat", "global_affine"):
        assert torch.equal(samples[0][key], samples[1][key])
    assert not torch.equal(samples[0]["global_offset"], samples[2]["global_offset"])


def test_labels_come_along(rooms):
    np.random.seed(0)
    data = scene(rooms[0])
    data["origin_coord"] = data["coord"].copy()
    keys = ("coord", "origin_coord", "color", "instance")
    PartialViewPairGenerator(view_keys=keys)(data)
    rows = cKDTree(data["coord"]).query(data["global_coord"])[1]
    np.testing.assert_array_equal(data["global_instance"], data["instance"][rows])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": (0.9, 0.3)}, r"overlap=\(0.9, 0.3\) is no range"),
        ({"field_of_view": (0, 70)}, "field_of_view"),
        ({"elevation": (0, 100)}, "elevation"),
        ({"tries": 0}, "tries >= 1"),
        ({"view_keys": ("coord",)}, "PartialViewPairGenerator needs coord and origin"),
    ],
)
def test_bad_options_are_one_line(options, message):
    with pytest.raises(UserError, match=message):
        TRANSFORMS.build({"type": "PartialViewPairGenerator", **options})
