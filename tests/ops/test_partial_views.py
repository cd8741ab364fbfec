"""Simulated cameras: what they see, where they stand, how pairs overlap."""

import numpy as np
import pytest

from pointins_plugin.ops.partial_views import (
    Camera,
    CameraRange,
    ViewPairDraw,
    free_length,
    occupancy,
    overlap,
    partial_view_pair,
    place_cameras,
    visible_points,
)


def plane(width, height, pitch=0.05, seed=0):
    """A sheet in x and z around the origin, with points in random places."""
    rng = np.random.default_rng(seed)
    count = int(width * height / pitch**2)
    place = rng.random((count, 2)) - 0.5
    return np.stack(
        [place[:, 0] * width, np.zeros(count), place[:, 1] * height], axis=1
    ).astype(np.float32)


def room(seed=0, pitch=0.05, size=(5.0, 4.0, 2.5)):
    """Floor, four walls and a box in the middle."""
    rng = np.random.default_rng(seed)

    def sheet(low, high):
        low, high = np.array(low, float), np.array(high, float)
        side = high - low
        area = np.prod(side[side > 0])
        return low + rng.random((int(area / pitch**2), 3)) * side

    x, y, z = size
    a, b = 0.4 * x, 0.6 * x
    parts = [
        sheet([0, 0, 0], [x, y, 0]),
        sheet([0, 0, 0], [x, 0, z]),
        sheet([0, y, 0], [x, y, z]),
        sheet([0, 0, 0], [0, y, z]),
        sheet([x, 0, 0], [x, y, z]),
        sheet([a, a, 0], [b, a, 1]),
        sheet([a, b, 0], [b, b, 1]),
        sheet([a, a, 0], [a, b, 1]),
        sheet([b, a, 0], [b, b, 1]),
        sheet([a, a, 1], [b, b, 1]),
    ]
    return np.concatenate(parts).astype(np.float32)


def test_what_is_behind_is_hidden_and_what_is_beside_is_not():
    wall = plane(4, 2)
    screen = plane(1, 1) + np.float32([0, -1, 0])
    coord = np.concatenate([wall, screen])
    camera = Camera(np.array([0, -3.0, 0]), np.zeros(3))
    seen = np.zeros(len(coord), dtype=bool)
    seen[visible_points(coord, camera, spacing=0.05, field_of_view=(90, 70))] = True
    assert seen[len(wall) :].all()
    # the screen, 2 m away, throws a shadow 1.5 times its size on the wall at 3 m
    x, z = np.abs(wall[:, 0]), np.abs(wall[:, 2])
    shadow = (x < 0.65) & (z < 0.65)
    clear = x > 1.1
    assert shadow.sum() > 500
    assert clear.sum() > 1000
    # random points leave a gap here and there
    assert seen[: len(wall)][shadow].mean() < 0.02
    assert seen[: len(wall)][clear].all()


def test_a_near_screen_leaks_nothing_between_its_points():
    """Points 5 cm apart at 30 cm are 9 degrees apart, the wall's much less."""
    wall = plane(6, 4)
    screen = plane(2, 2) + np.float32([0, -2.7, 0])
    coord = np.concatenate([wall, screen])
    camera = Camera(np.array([0, -3.0, 0]), np.zeros(3))
    index = visible_points(coord, camera, spacing=0.05)
    assert (index >= len(wall)).mean() > 0.97


def test_the_field_of_view_bounds_the_picture():
    wall = plane(12, 12, pitch=0.1)
    camera = Camera(np.array([0, -2.0, 0]), np.zeros(3))
    index = visible_points(wall, camera, 0.1, field_of_view=(90, 60))
    x, z = np.abs(wall[index, 0]), np.abs(wall[index, 2])
    assert x.max() == pytest.approx(2.0, abs=0.05)
    assert z.max() == pytest.approx(2 * np.tan(np.radians(30)), abs=0.05)
    inside = (np.abs(wall[:, 0]) < 2) & (np.abs(wall[:, 2]) < 1.15)
    assert len(index) == pytest.approx(inside.sum(), rel=0.02)
    behind = Camera(np.array([0, -2.0, 0]), np.array([0, -4.0, 0]))
    assert not len(visible_points(wall, behind, 0.1))
    # straight down, where no horizon gives the right-hand side
    floor = wall[:, [0, 2, 1]]
    above = Camera(np.array([0, 0, 2.0]), np.zeros(3))
    assert len(visible_points(floor, above, 0.1)) > 100


def test_turning_the_scene_turns_the_view():
    coord = room()
    camera = Camera(np.array([1.0, 1.0, 1.5]), np.array([4.0, 3.0, 0.5]))
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    turned = Camera(turn @ camera.position, turn @ camera.target)
    before = visible_points(coord, camera, 0.05)
    after = visible_points((coord @ turn.T).astype(np.float32), turned, 0.05)
    assert overlap(before, after, len(coord)) > 0.99


def test_spacing_is_that_of_the_surfaces():
    for pitch in (0.02, 0.05):
        assert occupancy(room(pitch=pitch)).spacing == pytest.approx(pitch, rel=0.25)


def test_the_way_ends_before_the_wall():
    coord = room()
    start = np.array([[0.0, 2.0, 1.5], [0.0, 2.0, 0.5], [2.5, 1.0, 0.0]])
    direction = np.array([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    length = free_length(occupancy(coord), start, direction, np.array([9.0, 9, 2]))
    # across the room, up to the box, up to the limit
    np.testing.assert_allclose(length, [5.0, 2.0, 2.0], atol=4 * 0.13)
    assert (length <= [5.0, 2.0, 2.0]).all()


def test_cameras_stand_free_inside_the_room_and_see_their_target():
    coord = room()
    scene = occupancy(coord)
    draw = np.random.default_rng(0).random((200, 4))
    position, target, roomy = place_cameras(coord, scene, draw, CameraRange())
    assert roomy.mean() > 0.3
    for place, point in zip(position[roomy], target[roomy], strict=True):
        assert (place > -0.05).all()
        assert (place[:2] < [5.05, 4.05]).all()
        cell = np.floor((place - scene.low) / scene.cell).astype(int)
        if (cell < scene.filled.shape).all() and (cell >= 0).all():
            assert not scene.filled[tuple(cell)]
        index = visible_points(coord, Camera(place, point), scene.spacing)
        assert np.linalg.norm(coord[index] - point, axis=1).min() < 0.15


def test_overlap_is_the_share_of_the_larger_view():
    assert overlap(np.arange(10), np.arange(5, 25), 30) == 5 / 20
    assert overlap(np.arange(10), np.arange(10), 30) == 1
    assert overlap(np.arange(0), np.arange(10), 30) == 0


@pytest.mark.parametrize("seed", range(12))
def test_pairs_overlap_and_are_partial(seed):
    coord = room(seed)
    draw = ViewPairDraw.sample(8, np.random.default_rng(seed))
    first, second = partial_view_pair(coord, draw)
    assert overlap(first, second, len(coord)) >= 0.3
    for view in (first, second):
        assert len(np.unique(view)) == len(view)
        assert 1000 <= len(view) < 0.8 * len(coord)
    assert overlap(first, second, len(coord)) < 1


def test_the_draw_decides_everything():
    coord = room()
    draws = [ViewPairDraw.sample(8, np.random.default_rng(s)) for s in (0, 0, 1)]
    a, b, c = (partial_view_pair(coord, draw) for draw in draws)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(a[0]) != len(c[0])


def test_size_and_overlap_are_bounded():
    coord = room()
    for seed in range(6):
        draw = ViewPairDraw.sample(8, np.random.default_rng(seed))
        first, second = partial_view_pair(coord, draw, max_size=2000)
        assert max(len(first), len(second)) <= 2000
        assert overlap(first, second, len(coord)) >= 0.3
        # out of reach for most candidates: the second camera moves to the first
        first, second = partial_view_pair(coord, draw, overlaps=(0.8, 0.95))
        assert overlap(first, second, len(coord)) >= 0.8


@pytest.mark.parametrize(
    "coord",
    [
        np.zeros((1, 3)),
        np.zeros((50, 3)),
        np.stack([np.linspace(0, 1, 40), np.zeros(40), np.zeros(40)], 1),
        np.random.default_rng(0).random((30, 3)) * [100, 100, 0],
        np.random.default_rng(0).random((5000, 3)) * [1e-3, 1e-3, 1e-4],
        1e4 + np.random.default_rng(0).random((5000, 3)) * [5, 4, 2],
    ],
    ids=["one point", "one place", "a line", "few, flat", "tiny", "far away"],
)
def test_odd_scenes_give_two_views_that_overlap(coord):
    coord = coord.astype(np.float32)
    for seed in range(5):
        draw = ViewPairDraw.sample(4, np.random.default_rng(seed))
        first, second = partial_view_pair(coord, draw)
        assert len(first)
        assert overlap(first, second, len(coord)) >= 0.3
