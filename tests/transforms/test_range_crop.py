"""Crop by range: bounds by hand, what goes along, and what it refuses."""

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.host import Compose
from pointins_plugin.transforms import RangeCrop


def scene():
    coord = np.array(
        [[1, 0, 0], [3, 4, 9], [0, -10, -2], [30, 40, 0], [0, 0, 5]], np.float32
    )
    return {
        "name": "a",
        "coord": coord,
        "strength": np.arange(5, dtype=np.float32)[:, None],
        "segment": np.arange(5),
        "pose": np.eye(4),
    }


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 4]),  # 50 m is out
        ({"far": 51}, [0, 1, 2, 3, 4]),
        ({"near": 5}, [1, 2]),  # 5 m is in, height does not count
        ({"near": 5.001}, [2]),
        ({"height": (-2, 5)}, [0, 2]),
        ({"near": 5, "center": (0, 1)}, [2, 3]),  # 49.2 m is in
        ({"far": 1.5, "center": (2, 0)}, [0]),
    ],
)
def test_bounds(options, kept):
    result = RangeCrop(**options)(scene())
    assert result["segment"].tolist() == kept
    assert result["strength"][:, 0].tolist() == kept
    np.testing.assert_array_equal(result["coord"], scene()["coord"][kept])
    assert result["pose"].shape == (4, 4)


def test_distant_coordinates_do_not_round():
    data = {"coord": np.array([[3e4, 4e4, 0], [3e4, 4e4 + 1, 0]], np.float32)}
    assert len(RangeCrop(near=50000.5, far=1e5)(data)["coord"]) == 1


def test_is_registered():
    crop = Compose([{"type": "RangeCrop", "near": 2.0, "far": 30.0}])
    assert crop(scene())["segment"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "options",
    [{"near": -1}, {"near": 5, "far": 5}, {"height": (1, 1)}, {"near": float("nan")}],
)
def test_empty_ranges_are_refused(options):
    with pytest.raises(UserError, match="keeps nothing"):
        RangeCrop(**options)


@pytest.mark.parametrize("center", [(1, 2, 3), (0, float("nan"))])
def test_a_centre_is_a_place(center):
    with pytest.raises(UserError, match=r"give \(x, y\) of the sensor"):
        RangeCrop(center=center)


def test_a_scan_without_points_in_range_is_named():
    with pytest.raises(UserError, match="scene a has no point between 60 and 70 m"):
        RangeCrop(near=60, far=70)(scene())
