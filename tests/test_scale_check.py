"""Clouds read in the wrong units are noticed, wide and dense ones are not."""

import numpy as np
import pytest

from pointins_plugin.scale_check import hardly_metres, scale_doubt

RNG = np.random.default_rng(0)
ROOM = RNG.random((20000, 3)) * (6, 5, 0.01)  # a floor, points 4 cm apart


@pytest.mark.parametrize("unit", ["mm", "cm", "km"])
def test_wrong_unit_is_named(unit):
    metres = {"mm": 0.001, "cm": 0.01, "km": 1000.0}[unit]
    doubt = scale_doubt(ROOM / metres, 0.05, 10.0)
    assert f"is it in {unit}? (--units {unit})" in doubt
    assert scale_doubt(ROOM, 0.05, 10.0, scale=metres) is None


def test_right_unit_given_wrongly():
    assert "--units m)" in scale_doubt(ROOM * 0.001, 0.05, 10.0, scale=0.001)


def test_what_is_merely_large_or_sparse():
    floors = np.concatenate([ROOM + (7 * i, 0, 0) for i in range(40)])
    assert scale_doubt(floors, 0.05, 10.0) is None  # 285 m of dense rooms
    sparse = RNG.random((500, 3)) * (60, 60, 1)  # far apart, but no wider than a scan
    assert scale_doubt(sparse, 0.05, 10.0) is None
    outlier = np.concatenate([ROOM, [[5e4, 0, 0]]])
    assert scale_doubt(outlier, 0.05, 10.0) is None
    assert scale_doubt(ROOM[:200] * 0.2, 0.05, 10.0) is None  # one object, 1.2 m


def test_degenerate():
    assert scale_doubt(np.zeros((0, 3)), 0.05, 10.0) is None
    assert scale_doubt(np.zeros((1, 3)), 0.05, 10.0) is None
    assert scale_doubt(np.zeros((5, 3)), 0.05, 10.0) is None


def test_no_unit_helps():
    # neither the 0.3 m as read nor 300 m is likely a room
    doubt = scale_doubt(ROOM * 0.05, 0.05, 10.0)
    assert "0.3 m wide" in doubt
    assert "--units" not in doubt


def test_millimetres_alone_are_noticed_and_wide_scans_are_not():
    table = RNG.random((40000, 3)) * (1, 0.8, 0.01)  # points 4 mm apart
    assert hardly_metres(ROOM * 1000)
    assert hardly_metres(table * 1000)
    assert not hardly_metres(ROOM)
    assert not hardly_metres(table)
    town = RNG.random((600_000, 3)) * (800, 700, 1)  # from the air, one a square metre
    assert not hardly_metres(town)
    street = RNG.random((3000, 3)) * (200, 200, 1)  # LiDAR, far out
    assert not hardly_metres(street)
    assert not hardly_metres(np.zeros((0, 3)))
