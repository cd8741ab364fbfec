"""Tiles: every point is the core of one, margins are what they should be; blocks."""

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.tiling import blocks, tiles

RNG = np.random.default_rng(0)
CLOUDS = {
    "room": RNG.random((3000, 3)) * (10, 6, 2.5),
    "street": RNG.normal(size=(3000, 3)) * (30, 30, 1),
    "one place": np.ones((500, 3)),
    "line": RNG.random((1000, 1)) * (1, 0, 0),
    "piles": np.repeat(RNG.random((5, 3)) * 10, 200, 0),
}


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("limit", [2, 100, 700])
def test_cores_are_a_partition_and_tiles_are_small(name, limit):
    coord = CLOUDS[name]
    parts = list(tiles(coord, limit, 0.5))
    core = np.concatenate([part.core for part in parts])
    assert sorted(core) == list(range(len(coord)))
    for part in parts:
        assert 0 < len(part.core)
        assert len(part.rows) <= limit
        assert len(np.unique(part.rows)) == len(part.rows)


def test_margin_holds_all_points_within_the_overlap():
    coord, overlap = CLOUDS["room"], 0.4
    parts = list(tiles(coord, 1500, overlap))
    assert len(parts) > 1
    for part in parts:
        points = coord[part.core]
        low, high = points.min(0) - overlap, points.max(0) + overlap
        # the core's own box is no larger than the tile's, so all in it are there
        inside = np.flatnonzero(((coord >= low) & (coord <= high)).all(1))
        assert np.isin(inside, part.rows).all()


def test_a_margin_too_dense_keeps_the_nearest():
    coord = np.concatenate(
        [np.zeros((60, 3)), np.linspace(0.01, 1, 100)[:, None] * (1, 0, 0)]
    )
    parts = list(tiles(coord, 40, 2.0))
    assert all(len(part.rows) == 40 for part in parts)
    last = max(parts, key=lambda part: coord[part.core, 0].min())
    edge = coord[last.core, 0].min()
    others = np.setdiff1d(np.arange(len(coord)), last.core)
    gap = np.sort(edge - coord[others, 0])[: len(last.halo)]
    np.testing.assert_allclose(np.sort(edge - coord[last.halo, 0]), gap)


def test_small_clouds_stay_as_they_are():
    (part,) = tiles(CLOUDS["line"], 1000, 1.0)
    assert part.rows.tolist() == list(range(1000))
    assert list(tiles(np.zeros((0, 3)), 10, 1.0)) == []


@pytest.mark.parametrize(("limit", "overlap"), [(1, 1.0), (10, -0.1)])
def test_senseless_limits(limit, overlap):
    with pytest.raises(UserError, match="give at least 2"):
        list(tiles(np.zeros((5, 3)), limit, overlap))


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize(("side", "most"), [(np.inf, 10000), (np.inf, 100), (2.5, 700)])
def test_blocks_are_a_partition_of_small_boxes(name, side, most):
    coord = CLOUDS[name]
    found = list(blocks(coord, side, most))
    assert sorted(np.concatenate(found)) == list(range(len(coord)))
    for rows in found:
        assert 0 < len(rows) <= most
        assert np.ptp(coord[rows], axis=0).max() <= side


def test_blocks_are_no_smaller_than_they_must():
    (whole,) = blocks(CLOUDS["room"], 10.0, 3000)
    assert whole.tolist() == list(range(3000))
    halves = list(blocks(CLOUDS["room"], 6.0, 3000))
    assert [len(rows) for rows in halves] == [1500, 1500]
    assert list(blocks(np.zeros((0, 3)), 1.0, 10)) == []
    for side, most in ((0.0, 10), (1.0, 0), (np.nan, 10)):
        with pytest.raises(UserError, match="at least 1"):
            list(blocks(np.ones((5, 3)), side, most))
