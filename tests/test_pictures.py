"""Pictures: geometry of the camera, what hides what, stable colours, panels."""

import builtins

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.pictures import (
    Camera,
    best_azimuth,
    cut_away,
    direction_colors,
    instance_colors,
    look_at,
    save_dots,
    save_panels,
    splat,
)

RED, BLUE = np.array([[255.0, 0, 0]]), np.array([[0, 0, 255.0]])


@pytest.fixture
def camera():
    """At the origin, looking along +x, y to the left, 100 pixels a radian."""
    rotation = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)
    return Camera(np.zeros(3), rotation, 100.0, 60, 40)


@pytest.fixture
def room():
    """A floor and four walls of one colour each, normals inwards, and a box."""
    rng = np.random.default_rng(0)
    parts = []
    for axis, side in ((0, -1), (0, 1), (1, -1), (1, 1)):
        points = rng.uniform((-2, -2, 0), (2, 2, 2.4), (6000, 3))
        points[:, axis] = 2 * side
        normal = np.zeros((6000, 3))
        normal[:, axis] = -side
        parts.append((points, normal))
    floor = rng.uniform((-2, -2, 0), (2, 2, 0), (6000, 3))
    parts.append((floor, np.tile([0.0, 0, 1], (6000, 1))))
    cube = rng.uniform((-0.3, -0.3, 0.5), (0.3, 0.3, 0.5), (500, 3))
    parts.append((cube, np.tile([0.0, 0, 1], (500, 1))))
    which = np.repeat(np.arange(6), [len(p) for p, _ in parts])
    return (*(np.concatenate(column) for column in zip(*parts, strict=True)), which)


def test_projection_by_hand(camera):
    pixel, depth = camera.project(np.array([[2.0, 0, 0], [2, 0.2, 0], [4, 0, 0.4]]))
    np.testing.assert_allclose(pixel, [[30, 20], [20, 20], [30, 10]])
    np.testing.assert_allclose(depth, [2, 2, 4])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_point_wins(camera, order):
    coord = np.array([[2.0, 0, 0], [3.0, 0, 0]])[order]
    color = np.concatenate([RED, BLUE])[order]
    image = splat(camera, coord, color, radius=0.1, eye_dome=0)
    assert image[20, 30].tolist() == [255, 0, 0]
    assert (image[0, 0] == 255).all()


def test_discs_have_their_size_in_perspective(camera):
    for distance in (1.0, 2.0):
        image = splat(camera, np.array([[distance, 0, 0]]), BLUE, 0.1, 0, supersample=4)
        area = (255.0 - image[..., 0]).sum() / 255
        assert area == pytest.approx(np.pi * (10 / distance) ** 2, rel=0.03)


def test_points_behind_or_beside_are_not_drawn(camera):
    coord = np.array([[-2.0, 0, 0], [2, 5, 0], [2, 0, -5]])
    assert (splat(camera, coord, np.zeros((3, 3)), 0.1) == 255).all()
    assert (splat(camera, np.zeros((0, 3)), np.zeros((0, 3)), 0.1) == 255).all()


def test_drawing_onto_a_picture_keeps_the_rest(camera):
    below = np.full((40, 60, 3), 77, np.uint8)
    image = splat(camera, np.array([[2.0, 0, 0]]), RED, 0.05, 0, onto=below)
    assert image[20, 30].tolist() == [255, 0, 0]
    assert (image[5] == 77).all()


def test_edges_are_darkened_where_depth_jumps(camera):
    y, z = np.meshgrid(np.linspace(-1, 1, 80), np.linspace(-1, 1, 80))
    plane = np.stack([np.full(y.size, 3.0), y.ravel(), z.ravel()], 1)
    near = plane[(np.abs(plane[:, 1]) < 0.3) & (np.abs(plane[:, 2]) < 0.3)]
    near = near - (1.0, 0, 0)
    coord = np.concatenate([plane, near])
    image = splat(camera, coord, np.full((len(coord), 3), 200.0), 0.04)
    assert image[20, 30, 0] == 200  # level ground keeps its colour
    assert image[:, :, 0].min() < 170


@pytest.mark.parametrize("azimuth", [-60, 0, 135])
def test_camera_sees_the_whole_cloud_and_fills_the_picture(room, azimuth):
    coord = room[0]
    view = look_at(coord, azimuth, 40, 400, 300)
    pixel, depth = view.project(coord)
    assert depth.min() > 0
    assert (pixel > 0).all()
    assert (pixel < (400, 300)).all()
    assert max(np.ptp(pixel[:, 0]) / 400, np.ptp(pixel[:, 1]) / 300) > 0.85
    a, e = np.radians(azimuth), np.radians(40)
    back = [np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)]
    np.testing.assert_allclose(-view.rotation[2], back, atol=1e-12)
    np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view.rotation) == pytest.approx(1)


def test_near_walls_are_cut_away_and_nothing_else(room):
    coord, normal, which = room
    view = look_at(coord, -45, 40)  # from +x, -y
    keep = cut_away(coord, normal, view)
    share = [keep[which == i].mean() for i in range(6)]
    # walls: -x far, +x near, -y near, +y far; floor; box. Ends of far walls may go
    assert share[1] == 0
    assert share[2] == 0
    assert share[0] > 0.85
    assert share[3] > 0.85
    assert share[4] == share[5] == 1


def test_view_that_shows_most(room):
    coord, normal, which = room
    some = np.isin(which, (0, 3, 4))  # walls at -x and +y: seen from +x, -y
    assert best_azimuth(coord[some], normal[some]) in (-60, -30)


def test_view_without_normals_is_where_shadows_are_hidden():
    rng = np.random.default_rng(0)
    table = rng.uniform((-1, -1, 0), (1, 1, 0), (60_000, 3))
    front = rng.uniform((-0.3, 0, 0), (0.3, 0, 0.4), (6000, 3))  # seen from -y
    hidden = (np.abs(table[:, 0]) < 0.3) & (table[:, 1] > 0) & (table[:, 1] < 0.45)
    assert best_azimuth(np.concatenate([table[~hidden], front])) % 360 == 270


def test_instance_colours():
    instance = np.repeat([-1, 0, 5, 7, 9], 10)
    colors = instance_colors(instance)
    assert len(np.unique(colors, axis=0)) == 5
    assert np.ptp(colors[0]) < 10  # grey
    np.testing.assert_array_equal(colors, instance_colors(instance))
    palette = np.unique(instance_colors(np.arange(12)), axis=0)
    apart = np.linalg.norm(palette[:, None] - palette[None], axis=2)
    assert apart[~np.eye(12, dtype=bool)].min() > 40
    assert instance_colors(np.full(3, -1)).shape == (3, 3)


def test_neighbouring_instances_differ_in_colour():
    rng = np.random.default_rng(0)
    centre = np.stack(np.meshgrid(np.arange(10.0), np.arange(6.0)), -1).reshape(-1, 2)
    coord = np.repeat(np.c_[centre, np.zeros(60)], 20, 0)
    instance = np.repeat(rng.permutation(60), 20)
    color = instance_colors(instance, coord + rng.normal(0, 0.1, coord.shape))[::20]
    gap = np.linalg.norm(centre[:, None] - centre[None], axis=2)
    apart = np.linalg.norm(color[:, None] - color[None], axis=2)
    assert apart[(gap > 0) & (gap < 1.1)].min() > 60


def test_opposite_directions_have_opposite_hues():
    east, west, north = direction_colors(np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]]))
    assert np.abs(east - west).max() > 100
    assert np.abs(east - north).max() > 60
    assert np.isfinite(direction_colors(np.zeros((1, 3)))).all()


def panels(path, **options):
    rng = np.random.default_rng(0)
    coord = rng.uniform(0, 1, (600, 3))
    instance = (coord[:, 0] * 3).astype(int) - 1
    scene = {"coord": coord, "color": rng.uniform(0, 255, (600, 3))}
    shift = 0.5 - coord
    return save_panels(path, scene, shift, instance, size=(160, 140), **options)


def test_panels(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    coarse = np.zeros(600, int)
    file = panels(tmp_path / "new" / "all.png", gt=coarse, extra=[("baseline", coarse)])
    picture = image.imread(file)[..., :3]
    assert picture.shape == (186, 6 * 160, 3)
    for i in range(6):
        part = picture[46:, i * 160 : (i + 1) * 160]
        assert 0.05 < (part < 0.97).any(2).mean() < 0.9
    again = panels(tmp_path / "again.png", gt=coarse, extra=[("baseline", coarse)])
    assert file.read_bytes() == again.read_bytes()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["all.png"]
    few = save_panels(tmp_path / "few.png", {"coord": np.eye(3)}, size=(160, 140))
    assert image.imread(few).shape[:2] == (186, 160)


def test_bad_arrays_are_named(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(UserError, match="gt has 5 rows"):
        panels(tmp_path / "a.png", gt=np.zeros(5))
    with pytest.raises(UserError, match="without points"):
        save_panels(tmp_path / "a.png", {"coord": np.zeros((0, 3))})
    with pytest.raises(UserError, match="cannot write"):
        panels(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_matplotlib_is_said(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install"):
        panels(tmp_path / "a.png")


def test_a_table_top_is_drawn(tmp_path, mosd_dir):
    pytest.importorskip("matplotlib")
    folder = mosd_dir / "val" / "test00"
    names = ("coord", "color", "instance")
    scene = {name: np.load(folder / f"{name}.npy") for name in names}
    path = save_panels(tmp_path / "t.png", scene, gt=scene["instance"], size=(200, 160))
    assert path.stat().st_size > 5000


def test_dots_are_marked_where_asked_and_values_that_are_missing_left_out(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib import image

    panel = ("a score", [("one", [1.0, 2.0]), ("other", [float("nan")]), ("none", [])])
    pictures = [
        image.imread(save_dots(tmp_path / "dots.png", [[panel]], "one", marked))
        for marked in ((), ("one",), ("other",))
    ]
    red = [(p[..., 0] - p[..., 1] > 0.4).sum() for p in pictures]
    assert red[0] == red[2] == 0
    assert red[1] > 20
