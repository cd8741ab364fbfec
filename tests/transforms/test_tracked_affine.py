"""TrackedAffine: identity, known matrices, inverse, composition, normals, replay."""

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.transforms.tracked_affine import (
    TrackedAffine,
    rotation,
    scaling,
    transform_normals,
    transform_points,
    transform_vectors,
    translation,
)


def scene(n=200, seed=0):
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(n, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    coord = rng.normal(size=(n, 3)) * [3, 2, 1] + [5, 6, 7]
    return {"coord": coord.astype(np.float32), "normal": normal.astype(np.float32)}


IDENTITY = {
    "rotate": {},
    "scale": (1, 1),
    "flip_p": 0.0,
    "center": "origin",
}


def test_nothing_drawn_is_the_identity():
    data = TrackedAffine(**IDENTITY)(scene())
    np.testing.assert_array_equal(data["coord"], scene()["coord"])
    np.testing.assert_array_equal(data["affine"], np.eye(4))


def test_quarter_turns_by_hand():
    x, y, z = np.eye(3)
    quarter = np.pi / 2
    for axis, before, after in (("z", x, y), ("x", y, z), ("y", z, x)):
        moved = transform_points(rotation(axis, quarter), before[None])
        np.testing.assert_allclose(moved[0], after, atol=1e-12)


def test_order_is_centre_scale_rotate_flip_shift():
    parameters = {
        "angles": {"z": np.pi / 2},
        "factors": np.array([2.0, 3.0, 4.0]),
        "signs": np.array([-1.0, 1.0, 1.0]),
        "shift": np.array([10.0, 0, 0]),
    }
    affine = TrackedAffine.matrix(parameters, centre=[1.0, 1, 1])
    # (2, 3, 4) - 1 = (1, 2, 3); scaled (2, 6, 12); turned (-6, 2, 12); flipped
    # (6, 2, 12); shifted (16, 2, 12)
    moved = transform_points(affine, np.array([[2.0, 3.0, 4.0]]))
    np.testing.assert_allclose(moved[0], [16, 2, 12], atol=1e-12)


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("center", ["origin", "box", "box_floor"])
def test_matrix_is_what_was_done_and_can_be_undone(anisotropic, center):
    np.random.seed(3)
    transform = TrackedAffine(
        rotate_p=1.0,
        scale=(0.5, 2.0),
        anisotropic=anisotropic,
        shift=((-1, 1), (-1, 1), (-1, 1)),
        center=center,
    )
    before = scene()
    after = transform(scene())
    affine = after["affine"]
    moved = transform_points(affine, before["coord"])
    np.testing.assert_allclose(moved, after["coord"], atol=1e-5)
    back = transform_points(np.linalg.inv(affine), after["coord"])
    np.testing.assert_allclose(back, before["coord"], atol=1e-5)
    assert affine.dtype == np.float64
    np.testing.assert_array_equal(affine[3], [0, 0, 0, 1])
    factors = np.linalg.svd(affine[:3, :3])[1]
    assert (factors >= 0.5).all()
    assert (factors <= 2.0).all()
    if not anisotropic:
        np.testing.assert_allclose(factors, factors[0])


def test_transforms_compose():
    np.random.seed(0)
    first = TrackedAffine(rotate_p=1.0, center="box")
    second = TrackedAffine(rotate_p=1.0, anisotropic=True, center="origin")
    data = first(scene())
    before = data["affine"]
    data = second(data)
    step = data["affine"] @ np.linalg.inv(before)
    moved = transform_points(data["affine"], scene()["coord"])
    np.testing.assert_allclose(moved, data["coord"], atol=1e-4)
    np.testing.assert_allclose(step[3], [0, 0, 0, 1], atol=1e-12)


def test_flip_has_a_negative_determinant():
    np.random.seed(0)
    transform = TrackedAffine(rotate={}, scale=(1, 1), flip_p=1.0, center="origin")
    data = transform(scene())
    np.testing.assert_array_equal(np.diag(data["affine"]), [-1, -1, 1, 1])
    single = scaling([-1, 1, 1])
    assert np.linalg.det(single) == -1
    offset = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(transform_vectors(single, offset), [[-1, 2, 3]])


def test_offsets_turn_but_do_not_move():
    affine = translation([5, 5, 5]) @ rotation("z", np.pi / 2)
    points = np.array([[0.0, 0, 0], [2, 0, 0]])
    centre = np.array([1.0, 1, 1])
    offsets = transform_vectors(affine, centre - points)
    moved = transform_points(affine, points) + offsets
    expected = transform_points(affine, centre[None])
    np.testing.assert_allclose(moved, np.repeat(expected, 2, 0), atol=1e-12)


def test_normals_stay_normal_to_a_scaled_plane():
    # x + y = 0 stretched by 3 along x: the normal (1, 1) becomes (1/3, 1)
    normal = np.array([[1.0, 1, 0], [0, 0, 0]]) / np.sqrt(2)
    moved = transform_normals(scaling([3, 1, 1]), normal)
    expected = np.array([1 / 3, 1, 0]) / np.linalg.norm([1 / 3, 1, 0])
    np.testing.assert_allclose(moved[0], expected, atol=1e-12)
    np.testing.assert_array_equal(moved[1], 0)
    tangent = transform_vectors(scaling([3, 1, 1]), np.array([[1.0, -1, 5]]))
    assert abs(float(tangent[0] @ moved[0])) < 1e-12


def test_same_seed_replays():
    transform = TrackedAffine()
    draws = [transform.sample(np.random.default_rng(s)) for s in (0, 0, 1)]
    a, b, c = (transform.matrix(draw, np.zeros(3)) for draw in draws)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    replayed = TrackedAffine.apply(scene(), a)
    again = TrackedAffine.apply(scene(), a)
    np.testing.assert_array_equal(replayed["coord"], again["coord"])


def test_bad_ranges_are_refused():
    with pytest.raises(UserError, match="rotate about 'w'"):
        TrackedAffine(rotate={"w": (0, 1)})
    with pytest.raises(UserError, match="no positive range"):
        TrackedAffine(scale=(-1, 1))
    with pytest.raises(UserError, match="center='middle'"):
        TrackedAffine(center="middle")
