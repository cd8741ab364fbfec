"""Views: their matrices survive Collect and collate, and are right."""

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS, Compose, collate_fn
from pointins_plugin.ops.views import nearest_points, sample_views
from pointins_plugin.transforms.multi_view import TrackedMultiViewGenerator


def scene(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    coord = (rng.random((n, 3)) * [6, 5, 2.5]).astype(np.float32)
    return {
        "coord": coord,
        "color": rng.random((n, 3)).astype(np.float32) * 255,
        "normal": np.tile(np.float32([0, 0, 1]), (n, 1)),
        "name": f"scene{seed}",
    }


def pipeline(view_transform, local=2):
    views = {
        "type": "TrackedMultiViewGenerator",
        "local_view_num": local,
        "global_transform": view_transform,
        "local_transform": view_transform,
        "max_size": 2000,
    }
    kinds = ["global", "local"] if local else ["global"]
    names = ("coord", "origin_coord", "offset", "affine")
    keys = [f"{kind}_{name}" for kind in kinds for name in names]
    collect = {
        "type": "Collect",
        "keys": (*keys, "name"),
        "offset_keys_dict": {},
        **{
            f"{k}_feat_keys": (f"{k}_coord", f"{k}_color", f"{k}_normal") for k in kinds
        },
    }
    return Compose(
        [
            {"type": "Copy", "keys_dict": {"coord": "origin_coord"}},
            views,
            {"type": "ToTensor"},
            collect,
        ]
    )


TRACKED = [{"type": "TrackedAffine"}, {"type": "TrackedAffine", "anisotropic": True}]
UNTRACKED = [
    {"type": "CenterShift"},
    {"type": "RandomScale", "scale": [0.8, 1.2], "anisotropic": True},
    {"type": "RandomRotate", "axis": "z", "p": 1.0},
    {"type": "RandomFlip"},
]


# jitter stays beside the matrix; what drops or reorders points does not matter
MIXED = [
    *TRACKED,
    {"type": "RandomRotate", "axis": "x", "p": 1.0},
    {"type": "ShufflePoint"},
    {"type": "RandomScale", "scale": [0.8, 0.9]},
    {"type": "RandomDropout", "dropout_ratio": 0.3, "dropout_application_ratio": 1.0},
    {"type": "TrackedAffine"},
]


@pytest.mark.parametrize("view_transform", [TRACKED, UNTRACKED, MIXED])
def test_matrices_of_a_batch_are_those_of_its_views(view_transform):
    np.random.seed(0)
    build = pipeline(view_transform)
    batch = collate_fn([build(scene(seed=seed)) for seed in (0, 1)])
    for kind, views in (("global", 4), ("local", 4)):
        affine, offset = batch[f"{kind}_affine"], batch[f"{kind}_offset"]
        assert affine.shape == (views, 4, 4)
        assert affine.dtype == torch.float64
        assert len(offset) == views
        assert offset[-1] == len(batch[f"{kind}_coord"]) == len(batch[f"{kind}_feat"])
        start = 0
        for matrix, end in zip(affine, offset.tolist(), strict=True):
            origin = batch[f"{kind}_origin_coord"][start:end].double()
            moved = origin @ matrix[:3, :3].t() + matrix[:3, 3]
            expected = batch[f"{kind}_coord"][start:end].double()
            torch.testing.assert_close(moved, expected, atol=2e-5, rtol=0)
            start = end


def test_views_without_local_ones():
    sample = pipeline(TRACKED, local=0)(scene())
    assert not [key for key in sample if key.startswith("local")]


def test_scene_is_not_changed():
    before, data = scene(), scene()
    data["origin_coord"] = data["coord"].copy()
    shared = [{"type": "NormalizeColor"}]
    TrackedMultiViewGenerator(
        global_shared_transform=shared, global_transform=TRACKED, local_view_num=0
    )(data)
    for key in ("coord", "color", "normal"):
        np.testing.assert_array_equal(data[key], before[key])
    assert data["global_color"].max() <= 1


def test_same_seed_same_views():
    build = pipeline(TRACKED)
    samples = []
    for _ in range(2):
        np.random.seed(5)
        samples.append(build(scene()))
    for key, value in samples[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, samples[1][key]), key


def test_nearest_points_are_the_nearest():
    coord = scene()["coord"]
    chosen = nearest_points(coord, coord[0], 100)
    distance = np.linalg.norm(coord - coord[0], axis=1)
    expected = np.sort(distance)[:100]
    np.testing.assert_allclose(np.sort(distance[chosen]), expected, rtol=1e-6)
    assert len(nearest_points(coord, coord[0], 10**6)) == len(coord)


def test_sizes_and_places_of_views():
    np.random.seed(0)
    coord = scene(10000)["coord"]
    for _ in range(10):
        global_views, local_views = sample_views(coord, max_size=5000)
        assert len(global_views) == 2
        assert len(local_views) == 4
        assert all(2000 <= len(view) <= 5000 for view in global_views)
        assert all(500 <= len(view) <= 2000 for view in local_views)
        # local views lie around points of the first global view
        assert all(np.isin(view, global_views[0]).any() for view in local_views)
    shared, _ = sample_views(coord, shared_global_view=True)
    np.testing.assert_array_equal(*shared)


def test_centres_even_over_range():
    """Nine in ten points lie within a metre of the sensor; views do not."""
    rng = np.random.default_rng(0)
    distance = np.concatenate([rng.random(9000), rng.uniform(1, 20, 1000)])
    angle = rng.uniform(0, 2 * np.pi, len(distance))
    coord = np.stack([distance * np.cos(angle), distance * np.sin(angle), 0 * angle], 1)

    def near(**options):
        np.random.seed(0)
        views = [
            sample_views(coord, 2, (0.001, 0.001), 1, (0.001, 0.001), **options)
            for _ in range(200)
        ]
        return np.mean([(distance[v[0][0]] < 1).mean() for v in views])

    assert near() > 0.8
    assert near(even_range=1.0) < 0.15
    assert near(even_range=100.0) > 0.8
    with pytest.raises(UserError, match="even_range=0"):
        TrackedMultiViewGenerator(even_range=0)


def test_missing_keys_are_named():
    with pytest.raises(UserError, match="origin_coord in view_keys"):
        TrackedMultiViewGenerator(view_keys=("coord", "color"))
    generator = TRANSFORMS.build({"type": "TrackedMultiViewGenerator"})
    with pytest.raises(UserError, match="asks for 'origin_coord', which scene scene0"):
        generator(scene())


def test_jitter_stays_beside_the_matrix():
    np.random.seed(0)
    jitter = {"type": "RandomJitter", "sigma": 0.01, "clip": 0.05}
    sample = pipeline([*TRACKED, jitter, *UNTRACKED[2:3]], local=0)(scene())
    size = int(sample["global_offset"][0])
    origin, matrix = sample["global_origin_coord"][:size], sample["global_affine"][0]
    moved = origin.double() @ matrix[:3, :3].t() + matrix[:3, 3]
    residual = (moved - sample["global_coord"][:size]).norm(dim=1)
    assert 0.005 < residual.mean() < 0.03
    # unbiased: a fit to the moved points could not be closer
    assert (moved - sample["global_coord"][:size]).mean(0).abs().max() < 2e-3


def test_what_distorts_is_refused():
    class Bend:
        def __call__(self, view):
            view["coord"] = view["coord"] ** 3
            return view

    generator = TrackedMultiViewGenerator(local_view_num=0)
    generator.transforms["global"] = [Bend()]
    data = scene()
    data["origin_coord"] = data["coord"].copy()
    with pytest.raises(UserError, match="Bend moves points"):
        generator(data)
