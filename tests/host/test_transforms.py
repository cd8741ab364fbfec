"""Transforms: values by hand, invariances, and every name Pointcept's configs use."""

import colorsys
import random

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS, Compose, index_operator
from pointins_plugin.host.standalone.registry import accepted_keywords
from pointins_plugin.host.standalone.transforms import colour, sampling
from pointins_plugin.host.standalone.transforms.geometric import _interpolate

# What the Sonata, PointGroup, semantic, nuScenes and SemanticKITTI configs name, with
# every keyword that Pointcept's classes take.
USED = {
    "CenterShift": "apply_z",
    "ChromaticAutoContrast": "p blend_factor",
    "ChromaticJitter": "p std",
    "ChromaticTranslation": "p ratio",
    "Collect": "keys offset_keys_dict",
    "ContrastiveViewsGenerator": "view_keys view_trans_cfg",
    "Copy": "keys_dict",
    "CropBoundary": "",
    "ElasticDistortion": "distortion_params",
    "GridSample": """grid_size hash_type mode return_inverse return_grid_coord
        return_min_coord return_displacement project_displacement""",
    "HueSaturationTranslation": "hue_max saturation_max",
    "InstanceParser": "segment_ignore_index instance_ignore_index",
    "MultiViewGenerator": """global_view_num global_view_scale local_view_num
        local_view_scale global_shared_transform global_transform local_transform
        max_size enc2d_max_size enc2d_scale center_height_scale shared_global_view
        view_keys static_view_keys if_frame_selected""",
    "NormalizeColor": "",
    "NormalizeCoord": "",
    "PointClip": "point_cloud_range",
    "PositiveShift": "",
    "RandomColorDrop": "p color_augment",
    "RandomColorGrayScale": "p",
    "RandomColorJitter": "brightness contrast saturation hue p",
    "RandomDropColor": "drop_ratio drop_application_ratio",
    "RandomDropNormal": "drop_ratio drop_application_ratio",
    "RandomDropout": "dropout_ratio dropout_application_ratio",
    "RandomFlip": "p",
    "RandomJitter": "sigma clip",
    "ClipGaussianJitter": "scalar store_jitter",
    "RandomRotate": "angle center axis always_apply p",
    "RandomRotateTargetAngle": "angle center axis always_apply p",
    "RandomScale": "scale anisotropic",
    "RandomShift": "shift",
    "ShufflePoint": "",
    "SphereCrop": "point_max sample_rate mode",
    "ToTensor": "",
    "Update": "keys_dict",
}


def scene(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((n, 3))
    return {
        "coord": (rng.random((n, 3)) * [5, 4, 2.5] - 1).astype(np.float32),
        "color": rng.integers(0, 256, (n, 3)).astype(np.float32),
        "normal": (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype("f4"),
        "strength": rng.random((n, 1)).astype(np.float32),
        "segment": rng.integers(-1, 5, n).astype(np.int32),
        "instance": rng.integers(-1, 9, n).astype(np.int32),
    }


def apply(name, data=None, seed=0, **options):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    data = scene() if data is None else data
    return TRANSFORMS.build({"type": name, **options})(data)


@pytest.mark.parametrize("name", USED)
def test_every_name_in_use_is_there_with_its_keywords(name):
    accepted, _ = accepted_keywords(TRANSFORMS.get(name))
    assert set(USED[name].split()) <= set(accepted)


def toy(*rows):
    return {"coord": np.array(rows, np.float32)}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("CenterShift", {}, [[-1, -2, 0], [1, 2, 4]]),
        ("CenterShift", {"apply_z": False}, [[-1, -2, 2], [1, 2, 6]]),
        ("PositiveShift", {}, [[0, 0, 0], [2, 4, 4]]),
        (
            "PointClip",
            {"point_cloud_range": (0, 0, 0, 2, 5, 5)},
            [[1, 0, 2], [2, 4, 5]],
        ),
        ("RandomScale", {"scale": [2, 2]}, [[2, 0, 4], [6, 8, 12]]),
        ("RandomFlip", {"p": 1.0}, [[-1, 0, 2], [-3, -4, 6]]),
        ("RandomFlip", {"p": 0.0}, [[1, 0, 2], [3, 4, 6]]),
        ("RandomShift", {"shift": ((1, 1), (2, 2), (3, 3))}, [[2, 2, 5], [4, 6, 9]]),
        # a quarter turn about the box's centre (2, 2), and about the origin
        (
            "RandomRotateTargetAngle",
            {"angle": [0.5], "p": 1.0},
            [[4, 1, 2], [0, 3, 6]],
        ),
        (
            "RandomRotate",
            {"angle": [0.5, 0.5], "center": [0, 0, 0], "p": 1.0},
            [[0, 1, 2], [-4, 3, 6]],
        ),
        (
            "RandomRotate",
            {"angle": [1, 1], "axis": "x", "center": [0, 0, 0], "always_apply": True},
            [[1, 0, -2], [3, -4, -6]],
        ),
    ],
)
def test_coordinates_by_hand(name, options, expected):
    moved = apply(name, toy([1, 0, 2], [3, 4, 6]), **options)["coord"]
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    assert moved.dtype.kind == "f"


def test_precision_is_pointcepts():
    """Rotated and clipped coordinates are float64, all others keep their dtype."""
    turn = dict(angle=[0.3], center=[0, 0, 0], p=1.0)
    turned = apply("RandomRotateTargetAngle", **turn)
    c, s = np.cos(0.3 * np.pi), np.sin(0.3 * np.pi)
    x, y, z = scene()["coord"].astype(np.float64).T
    expected = np.stack([c * x - s * y, s * x + c * y, z], axis=1)
    np.testing.assert_allclose(turned["coord"], expected, rtol=0, atol=1e-14)
    assert turned["coord"].dtype == turned["normal"].dtype == np.float64
    box = (0.1, 0.1, 0.1, 0.7, 0.7, 0.7)
    clipped = apply("PointClip", point_cloud_range=box)["coord"]
    assert clipped.min() == 0.1
    assert clipped.max() == 0.7
    scaled = apply("RandomScale", scale=[0.95, 0.95])["coord"]
    double = scene()["coord"].astype(np.float64) * 0.95
    np.testing.assert_array_equal(scaled, double.astype(np.float32))


def test_unit_ball():
    ball = apply("NormalizeCoord")["coord"]
    np.testing.assert_allclose(ball.mean(0), 0, atol=1e-5)
    assert np.linalg.norm(ball, axis=1).max() == pytest.approx(1)


def test_normals_turn_and_flip_with_the_points():
    data = {"coord": np.eye(3, dtype="f4"), "normal": np.eye(3, dtype="f4")}
    turned = apply("RandomRotate", data, angle=[0.5, 0.5], always_apply=True)
    expected = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(turned["normal"], expected, atol=1e-6)
    data = {"coord": np.eye(3, dtype="f4"), "normal": np.eye(3, dtype="f4")}
    flipped = apply("RandomFlip", data, p=1.0)
    np.testing.assert_allclose(flipped["normal"], np.diag([-1, -1, 1]))


@pytest.mark.parametrize(
    ("name", "options", "low", "high"),
    [
        ("RandomScale", {"scale": [0.9, 1.1]}, 0.9, 1.1),
        ("RandomShift", {"shift": ((-0.2, 0.3), (0, 0), (0, 0))}, 0.8, 1.3),
    ],
)
def test_draws_fill_their_range(name, options, low, high):
    transform = TRANSFORMS.build({"type": name, **options})
    np.random.seed(0)
    x = np.array([transform(toy([1, 0, 0]))["coord"][0, 0] for _ in range(500)])
    assert low <= x.min() < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < x.max() <= high
    assert abs(x.mean() - (low + high) / 2) < 0.05 * (high - low)


def test_angles_are_uniform_in_half_turns():
    transform = TRANSFORMS.build(
        dict(type="RandomRotate", angle=[-1, 1], center=[0, 0, 0], p=1.0)
    )
    np.random.seed(0)
    turned = np.array([transform(toy([1, 0, 0]))["coord"][0] for _ in range(2000)])
    angle = np.sort(np.arctan2(turned[:, 1], turned[:, 0])) / np.pi
    assert np.abs(angle - np.linspace(-1, 1, 2000)).max() < 0.08


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_probability_of_a_rotation(p):
    transform = TRANSFORMS.build(dict(type="RandomRotate", center=[0, 0, 0], p=p))
    random.seed(0)
    np.random.seed(0)
    turned = [transform(toy([1, 0, 0]))["coord"][0, 1] != 0 for _ in range(1000)]
    assert abs(np.mean(turned) - p) < 0.05


def test_jitter_is_clipped_gaussian():
    before = scene(20000)["coord"]
    moved = apply("RandomJitter", scene(20000), sigma=0.01, clip=0.02)["coord"]
    step = moved - before
    assert np.abs(step).max() <= 0.02 + 1e-6
    assert 0.009 < step.std() < 0.01
    assert (np.abs(step) > 0.01999).mean() == pytest.approx(0.0455, abs=0.01)


def test_clipped_gaussian_jitter():
    before = scene(20000)["coord"]
    moved = apply("ClipGaussianJitter", scene(20000), scalar=0.02, store_jitter=True)
    assert np.abs(moved["jitter"]).max() == 0.02
    np.testing.assert_allclose(moved["coord"] - before, moved["jitter"], atol=1e-6)
    # one draw in twenty lies beyond the 95 % quantile
    assert (np.abs(moved["jitter"]) == 0.02).mean() == pytest.approx(0.05, abs=0.01)


def test_elastic_distortion_is_smooth_and_has_its_size():
    data = scene(4000)
    before = data["coord"].copy()
    random.seed(1)  # below .95: applied
    np.random.seed(0)
    options = dict(type="ElasticDistortion", distortion_params=[[0.8, 1.6]])
    step = TRANSFORMS.build(options)(data)["coord"] - before
    assert 0.02 < step.std() < 0.6
    near = np.linalg.norm(before - before[0], axis=1).argsort()[1:4]
    assert np.abs(step[near] - step[0]).max() < 4 * step.std()


@pytest.mark.parametrize("num_points", [1, 2000])
def test_trilinear_interpolation_is_scipys(num_points):
    rng = np.random.default_rng(0)
    axes = [np.linspace(-1, 3, 6), np.linspace(0, 2, 4), np.linspace(2, 4, 3)]
    values = rng.normal(size=(6, 4, 3, 2)).astype(np.float32)
    coord = rng.uniform([-1, 0, 2], [3, 2, 4], (num_points, 3))
    coord[0] = 3, 2, 4  # the far corner
    expected = RegularGridInterpolator(axes, values)(coord)
    np.testing.assert_allclose(_interpolate(axes, values, coord), expected, atol=1e-12)


def test_dropout_keeps_its_share_and_labelled_points():
    dropped = apply("RandomDropout", dropout_ratio=0.25, dropout_application_ratio=1.0)
    assert len(dropped["coord"]) == len(dropped["segment"]) == 1500
    data = {**scene(), "sampled_index": np.array([3, 700, 1999])}
    wanted = data["coord"][data["sampled_index"]]
    options = dict(dropout_ratio=0.9, dropout_application_ratio=1.0)
    dropped = apply("RandomDropout", data, **options)
    kept = dropped["coord"][dropped["sampled_index"]]
    np.testing.assert_array_equal(kept, wanted)


def test_points_of_the_first_two_classes_are_cropped():
    before = scene()
    kept = apply("CropBoundary")
    assert (kept["segment"] != 0).all()
    assert (kept["segment"] != 1).all()
    gone = np.isin(before["segment"], (0, 1)).sum()
    assert len(kept["coord"]) == len(kept["normal"]) == 2000 - gone


def test_index_operator_takes_rows_and_leaves_the_rest():
    data = {
        **scene(10),
        "name": "a",
        "centre": np.arange(10),
        "text": list("abcdefghij"),
    }
    data["index_valid_keys"] = ["coord", "segment", "missing"]
    kept = index_operator(data, np.arange(10) % 2 == 0, duplicate=True)
    np.testing.assert_array_equal(kept["coord"], scene(10)["coord"][::2])
    assert len(kept["color"]) == len(kept["centre"]) == len(data["coord"]) == 10
    kept["index_valid_keys"].append("color")
    assert "color" not in data["index_valid_keys"]
    np.testing.assert_array_equal(
        index_operator(data, np.array([-1, 0]))["segment"],
        scene(10)["segment"][[-1, 0]],
    )


def test_shuffle_keeps_rows_together():
    before = scene()
    after = apply("ShufflePoint")
    assert not np.array_equal(before["coord"], after["coord"])
    order = np.lexsort(after["coord"].T), np.lexsort(before["coord"].T)
    for key in before:
        np.testing.assert_array_equal(after[key][order[0]], before[key][order[1]])


def test_sphere_crop_keeps_the_nearest_in_order():
    data = scene()
    centre = data["coord"][1000]
    distance = np.linalg.norm(data["coord"] - centre, axis=1)
    cropped = apply("SphereCrop", data, point_max=300, mode="center")["coord"]
    found = np.linalg.norm(cropped - centre, axis=1)
    np.testing.assert_allclose(found, np.sort(distance)[:300], atol=1e-6)
    assert len(apply("SphereCrop", sample_rate=0.1)["coord"]) == 200
    assert len(apply("SphereCrop", point_max=10**6)["coord"]) == 2000
    with pytest.raises(UserError, match=r"SphereCrop.*mode=.all."):
        apply("SphereCrop", mode="all")


@pytest.mark.parametrize("size", [0.4, [0.5, 0.4, 0.3]])
def test_grid_sample_keeps_one_point_a_cell(size):
    data = scene()
    cells = np.floor(data["coord"] / np.asarray(size)).astype(int)
    low = cells.min(0)
    expected, counts = np.unique(cells - low, axis=0, return_counts=True)
    sampled = apply(
        "GridSample",
        data,
        grid_size=size,
        return_grid_coord=True,
        return_inverse=True,
        return_min_coord=True,
        return_displacement=True,
    )
    grid = sampled["grid_coord"]
    assert (
        len(grid) == len(sampled["coord"]) == len(sampled["segment"]) == len(expected)
    )
    np.testing.assert_array_equal(np.unique(grid, axis=0), expected)
    np.testing.assert_array_equal(grid[sampled["inverse"]], cells - low)
    np.testing.assert_allclose(sampled["min_coord"], [low * np.asarray(size)])
    middle = (grid + low + 0.5 + sampled["displacement"]) * np.asarray(size)
    np.testing.assert_allclose(middle, sampled["coord"], atol=1e-5)
    assert np.abs(sampled["displacement"]).max() <= 0.5 + 1e-6
    assert counts.max() > 1


def fnv(cell):
    """Return FNV-1a, 64 bits, of three integers; an oracle without NumPy."""
    key = 14695981039346656037
    for number in cell:
        key = key * 1099511628211 % 2**64 ^ int(number)
    return key


def test_cells_come_in_the_order_of_their_keys():
    grid = np.random.default_rng(0).integers(0, 2000, (500, 3))
    assert sampling.cell_keys(grid).tolist() == [fnv(cell) for cell in grid]
    ravelled = apply(
        "GridSample", grid_size=0.4, hash_type="ravel", return_grid_coord=True
    )
    np.testing.assert_array_equal(
        ravelled["grid_coord"], np.unique(ravelled["grid_coord"], axis=0)
    )
    hashed = apply("GridSample", grid_size=0.4, return_grid_coord=True)["grid_coord"]
    assert sorted(fnv(cell) for cell in hashed) == [fnv(cell) for cell in hashed]


def test_keys_of_huge_grids_do_not_overflow():
    grid = np.array([[0, 0, 1], [2**40, 0, 0], [0, 2**40, 0], [0, 0, 1]])
    key = sampling.cell_keys(grid, "ravel")
    assert len(set(key.tolist())) == 3
    assert key[0] == key[3]


@pytest.mark.parametrize("mode", ["train", "test"])
def test_displacement_along_the_normal(mode):
    options = dict(grid_size=0.4, mode=mode, return_displacement=True)
    whole = apply("GridSample", **options)
    along = apply("GridSample", **options, project_displacement=True)
    whole, along = ([v] if mode == "train" else v for v in (whole, along))
    for vector, length in zip(whole, along, strict=True):
        expected = (vector["displacement"] * vector["normal"]).sum(1, keepdims=True)
        np.testing.assert_allclose(length["displacement"], expected)


def test_grid_sample_keeps_labelled_points():
    data = {**scene(), "sampled_index": np.array([3, 700, 1999])}
    wanted = data["coord"][data["sampled_index"]]
    sampled = apply("GridSample", data, grid_size=1.0, return_grid_coord=True)
    kept = sampled["coord"][sampled["sampled_index"]]
    np.testing.assert_array_equal(kept, wanted)
    assert len(sampled["grid_coord"]) == len(sampled["coord"])


def test_a_list_of_the_config_is_not_changed():
    keys = ["coord", "color"]
    sample = Compose(
        [
            dict(type="Update", keys_dict={"index_valid_keys": keys}),
            dict(
                type="GridSample",
                grid_size=0.4,
                return_grid_coord=True,
                return_displacement=True,
            ),
        ]
    )
    for _ in range(2):
        found = sample({key: scene()[key] for key in keys})["index_valid_keys"]
        assert found == ["coord", "color", "grid_coord", "displacement"]
    assert keys == ["coord", "color"]


@pytest.mark.parametrize("options", [{"mode": "val"}, {"grid_size": 0}])
def test_bad_options_of_grid_sample(options):
    with pytest.raises(
        UserError, match=r"^config: GridSample: (mode='val'|grid_size=0)"
    ):
        apply("GridSample", **options)


def test_grid_sample_draws_every_point_of_a_cell():
    np.random.seed(0)
    transform = TRANSFORMS.build(dict(type="GridSample", grid_size=1.0))
    x = [
        transform(toy([0.1, 0, 0], [0.2, 0, 0], [0.9, 0, 0]))["coord"][0, 0]
        for _ in range(300)
    ]
    share = np.unique(np.float32(x), return_counts=True)[1] / 300
    np.testing.assert_allclose(share, 1 / 3, atol=0.1)


def test_grid_sample_in_test_mode_covers_all_points():
    fragments = apply("GridSample", grid_size=0.4, mode="test")
    count = np.bincount(np.concatenate([part["index"] for part in fragments]))
    assert len(count) == 2000
    assert count.min() >= 1
    for part in fragments:
        cells = np.floor(part["coord"] / 0.4)
        assert len(np.unique(cells, axis=0)) == len(cells) == len(fragments[0]["coord"])
        np.testing.assert_array_equal(part["coord"], scene()["coord"][part["index"]])


def test_colours_by_hand():
    color = np.array([[255, 0, 0], [0, 51, 0], [102, 102, 102]], np.float32)
    normalized = apply("NormalizeColor", {"color": color.copy()})["color"]
    np.testing.assert_allclose(normalized[1], [0, 0.2, 0])
    gray = apply("RandomColorGrayScale", {"color": color.copy()}, p=1.0)["color"]
    np.testing.assert_allclose(gray[0], 0.2989 * 255, rtol=1e-5)
    same = apply(
        "HueSaturationTranslation", {"color": color.copy()}, hue_max=0, saturation_max=0
    )
    np.testing.assert_allclose(same["color"], color)
    low = np.array([[100, 0, 0], [200, 0, 0]], np.float32)
    stretched = apply("ChromaticAutoContrast", {"color": low}, p=1.0, blend_factor=1.0)
    np.testing.assert_allclose(stretched["color"][:, 0], [0, 255])


def test_hue_and_saturation_against_the_standard_library():
    rgb = np.random.default_rng(0).random((300, 3))
    rgb[:3] = 0, 0.5, 1
    expected = np.array([colorsys.rgb_to_hsv(*color) for color in rgb])
    np.testing.assert_allclose(colour.rgb_to_hsv(rgb), expected, atol=1e-12)
    np.testing.assert_allclose(colour.hsv_to_rgb(expected), rgb, atol=1e-12)


def test_a_hue_that_is_turned_by_a_third():
    color = np.array([[255, 0, 0], [10, 200, 30]], np.float32)
    turned = apply("RandomColorJitter", {"color": color}, hue=(1 / 3, 1 / 3), p=1.0)
    np.testing.assert_allclose(turned["color"], [[0, 255, 0], [30, 10, 200]], atol=1e-3)


def test_one_colour_has_no_contrast():
    color = np.full((4, 3), 100, np.float32)
    same = apply("ChromaticAutoContrast", {"color": color.copy()}, p=1.0)["color"]
    np.testing.assert_array_equal(same, color)


def test_dropped_colour():
    dark = apply("RandomColorDrop", p=1.0, color_augment=0.25)["color"]
    np.testing.assert_allclose(dark, scene()["color"] / 4)
    same = apply("RandomColorDrop", p=0.0, color_augment=0.25)["color"]
    np.testing.assert_array_equal(same, scene()["color"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ChromaticTranslation", {"p": 1.0, "ratio": 0.2}),
        ("ChromaticJitter", {"p": 1.0}),
        ("RandomColorJitter", {"brightness": 0.4, "hue": 0.2, "p": 1.0}),
        ("RandomColorGrayScale", {"p": 1.0}),
    ],
)
def test_further_columns_of_a_colour_stay(name, options):
    data = scene(50)
    data["color"] = np.column_stack([data["color"], np.arange(50)]).astype("f4")
    changed = apply(name, data, **options)["color"]
    np.testing.assert_array_equal(changed[:, 3], np.arange(50))
    assert not np.array_equal(changed[:, :3], scene(50)["color"])


@pytest.mark.parametrize("options", [{"hue": 0.7}, {"contrast": -1}])
def test_ranges_of_colour_that_mean_nothing(options):
    with pytest.raises(UserError, match="RandomColorJitter"):
        apply("RandomColorJitter", **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ChromaticTranslation", {"p": 1.0, "ratio": 0.05}),
        ("ChromaticJitter", {"p": 1.0, "std": 0.05}),
        ("RandomColorJitter", dict(brightness=0.4, contrast=0.4, hue=0.1, p=1.0)),
        ("HueSaturationTranslation", {}),
        ("ChromaticAutoContrast", {"p": 1.0}),
    ],
)
def test_colours_stay_colours(name, options):
    changed = apply(name, **options)
    before = scene()
    assert changed["color"].dtype == np.float32
    assert 0 <= changed["color"].min() < changed["color"].max() <= 255
    assert not np.array_equal(changed["color"], before["color"])
    np.testing.assert_array_equal(changed["coord"], before["coord"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ChromaticAutoContrast", {"p": 1.0, "blend_factor": 1.0}),
        ("ChromaticTranslation", {"p": 1.0, "ratio": 0.2}),
        ("ChromaticJitter", {"p": 1.0, "std": 0.05}),
        ("RandomColorJitter", {"brightness": 0.4, "hue": 0.2, "p": 1.0}),
        ("HueSaturationTranslation", {}),
        ("RandomColorGrayScale", {"p": 1.0}),
    ],
)
def test_colours_of_bytes_are_cut_to_bytes(name, options):
    colours = {}
    for dtype in (np.uint8, np.float64):
        data = scene(200)
        data["color"] = np.arange(600).reshape(200, 3).astype(np.uint8).astype(dtype)
        colours[dtype] = apply(name, data, **options)["color"]
    assert colours[np.uint8].dtype == np.uint8
    exact = colours[np.float64]
    if name != "RandomColorJitter":  # whose second step sees what the first has cut
        np.testing.assert_array_equal(colours[np.uint8], exact.astype(np.uint8))
    assert not np.array_equal(exact, np.arange(600).reshape(200, 3) % 256)


def test_translation_is_one_colour_for_all():
    data = scene()
    data["color"] = data["color"] / 2 + 60
    before = data["color"].copy()
    step = apply("ChromaticTranslation", data, p=1.0, ratio=0.05)["color"] - before
    assert np.ptp(step, axis=0).max() < 1e-3
    assert 0 < np.abs(step).max() <= 0.05 * 255


@pytest.mark.parametrize("name", ["RandomDropColor", "RandomDropNormal"])
def test_dropped_entries(name):
    key = "color" if name.endswith("Color") else "normal"
    dropped = apply(name, drop_ratio=0.25, drop_application_ratio=1.0)
    assert (dropped[key] == 0).all(1).sum() == 500


def test_instance_parser_reference(golden_dir):
    golden = np.load(golden_dir / "instance_parser.npz")
    data = {key[3:]: golden[key].copy() for key in golden if key.startswith("in_")}
    found = apply("InstanceParser", data, segment_ignore_index=(-1, 0, 1))
    names = [key[4:] for key in golden if key.startswith("out_")]
    assert {"instance", "instance_centroid", "bbox"} <= set(names)
    for name in names:
        np.testing.assert_allclose(found[name], golden[f"out_{name}"], atol=1e-6)


def test_instance_parser_by_hand():
    data = {
        "coord": np.array([[0, 0, 0], [2, 0, 0], [5, 5, 5], [9, 9, 9]], np.float32),
        "segment": np.array([2, 2, 3, 0]),
        "instance": np.array([7, 7, 4, 4]),
    }
    found = apply("InstanceParser", data, segment_ignore_index=(-1, 0, 1))
    np.testing.assert_array_equal(found["instance"], [1, 1, 0, -1])
    centroid = [[1, 0, 0], [1, 0, 0], [5, 5, 5], [-1, -1, -1]]
    np.testing.assert_allclose(found["instance_centroid"], centroid)
    # centre, size, angle, class without the two ignored ones
    expected = [[5, 5, 5, 0, 0, 0, 0, 1], [1, 0, 0, 2, 0, 0, 0, 0]]
    np.testing.assert_allclose(found["bbox"], expected)


def test_a_scene_becomes_a_sample():
    sample = Compose(
        [
            dict(type="Copy", keys_dict={"coord": "origin_coord"}),
            dict(type="CenterShift"),
            dict(type="ToTensor"),
            dict(type="Update", keys_dict={"grid_size": 0.02}),
            dict(
                type="Collect",
                keys=("coord", "origin_coord", "grid_size"),
                feat_keys=("coord", "strength"),
            ),
        ]
    )(scene(10))
    assert set(sample) == {"coord", "origin_coord", "grid_size", "feat", "offset"}
    assert sample["feat"].shape == (10, 4)
    assert sample["feat"].dtype == torch.float32
    assert sample["offset"].tolist() == [10]
    assert not torch.equal(sample["coord"], sample["origin_coord"])
    with pytest.raises(UserError, match=r"Collect asks for 'colour'.*'color'"):
        apply("Collect", scene(4), keys=("colour",))


def test_to_tensor_types():
    found = apply(
        "ToTensor",
        {
            "i": np.int16([1]),
            "f": np.float64([1]),
            "b": np.array([True]),
            "n": 3,
            "s": "a",
        },
    )
    kinds = {key: value.dtype for key, value in found.items() if key != "s"}
    assert kinds == {
        "i": torch.int64,
        "f": torch.float32,
        "b": torch.bool,
        "n": torch.int64,
    }
    assert found["s"] == "a"
    with pytest.raises(UserError, match="entry 'x': object cannot become a tensor"):
        apply("ToTensor", {"x": object()})


def test_views_of_pointcepts_generator():
    options = dict(
        global_transform=[dict(type="RandomScale", scale=[2, 2])],
        local_transform=[dict(type="CenterShift")],
        max_size=1500,
    )
    data = {**scene(), "origin_coord": scene()["coord"], "name": "a"}
    views = apply("MultiViewGenerator", data, **options)
    for kind, count in (("global", 2), ("local", 4)):
        assert len(views[f"{kind}_offset"]) == count
        for key in ("coord", "origin_coord", "color", "normal"):
            assert len(views[f"{kind}_{key}"]) == views[f"{kind}_offset"][-1]
    np.testing.assert_allclose(
        views["global_coord"], 2 * views["global_origin_coord"], rtol=1e-6
    )
    np.testing.assert_array_equal(views["coord"], scene()["coord"])
    views = apply(
        "MultiViewGenerator",
        {**scene(), "origin_coord": scene()["coord"]},
        local_view_num=0,
        shared_global_view=True,
    )
    np.testing.assert_array_equal(*np.split(views["global_coord"], 2))
    assert "local_coord" not in views


def test_views_remember_what_has_a_row_a_point():
    keys = ["coord", "origin_coord"]
    views = apply(
        "MultiViewGenerator",
        {**scene(), "origin_coord": scene()["coord"], "index_valid_keys": keys},
        view_keys=keys,
        local_transform=[dict(type="ShufflePoint")],
    )
    np.testing.assert_array_equal(views["local_coord"], views["local_origin_coord"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view_keys": ("color",)}, "lacks 'coord'"),
        ({"view_keys": ("coord", "colour")}, "asks for 'colour'"),
        ({"if_frame_selected": True}, "on Pointcept only"),
    ],
)
def test_views_that_cannot_be_made(options, message):
    with pytest.raises(UserError, match=message):
        apply("MultiViewGenerator", **options)


def test_pairs_of_views_sample_all_their_entries():
    data = {**scene(), "origin_coord": scene()["coord"]}
    keys = ["coord", "color", "normal", "origin_coord"]
    pair = Compose(
        [
            dict(type="Update", keys_dict={"index_valid_keys": keys}),
            dict(
                type="ContrastiveViewsGenerator",
                view_trans_cfg=[dict(type="SphereCrop", sample_rate=0.5)],
            ),
        ]
    )(data)
    for view in ("view1", "view2"):
        assert [len(pair[f"{view}_{key}"]) for key in keys] == [1000] * 4
        np.testing.assert_array_equal(
            pair[f"{view}_coord"], pair[f"{view}_origin_coord"]
        )
    assert not np.array_equal(pair["view1_coord"], pair["view2_coord"])
    assert len(pair["coord"]) == 2000
