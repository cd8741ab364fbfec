"""Priors: scipy as the oracle, round trips, label-free fit, bad input."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from pointins_plugin.errors import UserError
from pointins_plugin.priors import (
    LEVELS,
    NUM_KNOTS,
    DirectionPrior,
    MagnitudePrior,
    PriorBuffer,
    build_direction_prior,
    build_prior,
    instance_offsets,
    ks_distance,
    label_free_offsets,
)

PARAMETRIC = {
    "log_normal": ({"median": 0.4, "sigma": 0.6}, stats.lognorm(0.6, scale=0.4)),
    "gamma": ({"shape": 3.0, "scale": 0.2}, stats.gamma(3.0, scale=0.2)),
    "weibull": ({"shape": 2.5, "scale": 0.08}, stats.weibull_min(2.5, scale=0.08)),
}


@pytest.fixture(params=sorted(PARAMETRIC))
def parametric(request):
    options, oracle = PARAMETRIC[request.param]
    return build_prior({"type": request.param, **options}), oracle


def test_quantiles_are_scipys(parametric):
    prior, oracle = parametric
    u = torch.linspace(0.002, 0.998, 500, dtype=torch.float64)
    expected = torch.from_numpy(oracle.ppf(u.numpy()))
    torch.testing.assert_close(prior.quantile(u), expected, rtol=3e-3, atol=0)
    assert prior.median == pytest.approx(oracle.median(), rel=1e-12)
    assert prior.mean == pytest.approx(oracle.mean(), rel=3e-3)


def test_cdf_is_scipys_and_the_inverse_of_the_quantile(parametric):
    prior, oracle = parametric
    x = np.linspace(oracle.ppf(0.01), oracle.ppf(0.99), 200)
    np.testing.assert_allclose(prior.cdf(x), oracle.cdf(x), atol=1e-4)
    u = torch.linspace(0.001, 0.999, 777, dtype=torch.float64)
    torch.testing.assert_close(prior.cdf(prior.quantile(u)), u, rtol=0, atol=1e-9)
    assert prior.cdf([-1.0, 0.0, 1e9]).tolist() == [0, 0, 1]


def test_quantile_is_monotone_and_clipped_at_the_end_knots(parametric):
    prior, oracle = parametric
    u = torch.linspace(0, 1, 100_001)
    for value in (prior.quantile(u), PriorBuffer(prior).quantile(u)):
        assert (value.diff() >= 0).all()
        assert value[0].item() == pytest.approx(oracle.ppf(0.0005), rel=1e-6)
        assert value[-1].item() == pytest.approx(oracle.ppf(0.9995), rel=1e-6)


def test_tensors_arrays_and_the_buffer_agree(parametric):
    prior, _ = parametric
    u = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    expected = prior.quantile(u.double().numpy())
    np.testing.assert_allclose(prior.quantile(u), expected, rtol=1e-6)
    # In float32 a level is known to 6e-8, 1e-4 of the first step of a table.
    np.testing.assert_allclose(PriorBuffer(prior).quantile(u), expected, rtol=1e-4)
    assert PriorBuffer(prior).quantile(u.half()).dtype == torch.float32


def test_knots_are_where_they_are_said_to_be():
    table = np.arange(NUM_KNOTS, dtype=float)
    prior = MagnitudePrior.from_table(table)
    u = torch.tensor([0.0, 0.0005, 0.00075, 0.001, 0.25, 0.2505, 0.9995, 1.0])
    expected = torch.tensor([0.0, 0.0, 0.5, 1.0, 250.0, 250.5, 1000.0, 1000.0])
    torch.testing.assert_close(prior.quantile(u.double()), expected.double())
    assert prior.median == 500
    assert prior.mean == pytest.approx(500)


def test_empirical_reproduces_the_quantiles_of_its_sample():
    lengths = np.random.default_rng(0).weibull(2.0, 40_001) * 0.3
    prior = MagnitudePrior.empirical(lengths)
    u = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(prior.quantile(u), np.quantile(lengths, u), rtol=1e-9)
    assert ks_distance(lengths, prior) < 1e-3
    assert prior.provenance["count"] == 40_001


def test_cdf_jumps_at_a_value_that_repeats():
    prior = MagnitudePrior.empirical([1.0] * 50 + [2.0] * 50)
    assert prior.cdf(1.0) == pytest.approx(0.5, abs=0.02)
    assert prior.cdf(2.0) == 1


@pytest.mark.parametrize("family", sorted(PARAMETRIC))
def test_fit_recovers_the_parameters(family):
    options, oracle = PARAMETRIC[family]
    lengths = oracle.rvs(60_000, random_state=np.random.default_rng(1))
    prior = MagnitudePrior.fit(lengths, family)
    assert prior.provenance["parameters"] == pytest.approx(options, rel=0.03)
    expected = stats.kstest(lengths, oracle.cdf).statistic
    assert ks_distance(lengths, build_prior({"type": family, **options})) == (
        pytest.approx(expected, abs=5e-4)
    )


def test_json_round_trip_is_exact(tmp_path):
    lengths = np.random.default_rng(2).lognormal(size=500)
    prior = MagnitudePrior.empirical(lengths, {"data": "rooms", "date": "2026-01-01"})
    direction = DirectionPrior.empirical(np.random.default_rng(3).normal(size=(500, 3)))
    path = tmp_path / "new" / "prior.json"
    prior.save(path, direction)
    loaded = build_prior({"type": "file", "path": str(path)})
    assert (loaded.table == prior.table).all()
    assert loaded.provenance == prior.provenance
    assert loaded.provenance["data"] == "rooms"
    restored = build_direction_prior({"type": "file", "path": path})
    assert (build_prior(str(path)).table == prior.table).all()
    assert torch.equal(restored.direction_prior, direction.direction_prior)
    assert [p.name for p in path.parent.iterdir()] == ["prior.json"]


def test_scaled_multiplies_every_length():
    prior = MagnitudePrior.gamma(3.0, 0.2)
    twice = prior.scaled(2).scaled(2)
    np.testing.assert_allclose(twice.table, 4 * prior.table)
    assert twice.provenance["scaled"] == 4
    cfg = {"type": "gamma", "shape": 3.0, "scale": 0.2, "factor": 0.5}
    assert build_prior(cfg).median == pytest.approx(prior.median / 2)
    assert cfg["factor"] == 0.5
    with pytest.raises(UserError, match="factor must be positive"):
        build_prior({**cfg, "factor": 0})


def test_the_checkpoint_wins_over_the_config():
    trained = PriorBuffer(build_prior({"type": "gamma", "shape": 3, "scale": 0.2}))
    model = PriorBuffer(MagnitudePrior.log_normal(5.0, 1.0))
    assert list(trained.state_dict()) == ["magnitude_prior"]
    model.load_state_dict(trained.state_dict())
    assert model.median == pytest.approx(MagnitudePrior.gamma(3, 0.2).median)
    u = torch.tensor([0.1, 0.9])
    torch.testing.assert_close(model.quantile(u), trained.quantile(u))
    holder = torch.nn.Sequential(PriorBuffer(MagnitudePrior.log_normal(5.0, 1.0)))
    holder.load_state_dict(torch.nn.Sequential(trained).state_dict())
    assert holder[0].median == pytest.approx(trained.median)


def test_offsets_point_to_the_mean_of_the_instance():
    coord = np.array([[0, 0, 0], [2, 0, 0], [5, 5, 5], [9, 9, 9], [9, 9, 11.0]])
    instance = np.array([7, 7, -1, 3, 3])
    expected = [[1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]]
    np.testing.assert_allclose(instance_offsets(coord, instance, 2), expected)
    assert instance_offsets(coord, instance, 3).shape == (0, 3)


def test_label_prior_keeps_the_instances_of_scenes_apart():
    square = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0.0]])
    scenes = [(square, np.zeros(4, int)), (square + 100, np.zeros(4, int))]
    prior = MagnitudePrior.from_labels(scenes, min_points=4)
    np.testing.assert_allclose(prior.table, math.sqrt(2))


def blobs_on_a_floor(seed, num=8, points=250):
    """Balls of radius .1 to .2 m standing on a floor of 4 x 2 m, with one wall."""
    rng = np.random.default_rng(seed)
    floor = np.c_[rng.uniform([0, 0], [4, 2], (3000, 2)), rng.normal(0, 2e-3, 3000)]
    wall = np.c_[rng.uniform(0, 4, 2500), np.zeros(2500), rng.uniform(0, 2, 2500)]
    coord, instance = [floor, wall], [np.full(5500, -1)]
    for i in range(num):
        ball = rng.normal(size=(points, 3))
        ball *= (rng.random(points) ** (1 / 3) / np.linalg.norm(ball, axis=1))[:, None]
        radius = rng.uniform(0.1, 0.2)
        centre = [0.3 + i % 4, 0.5 + i // 4, radius + 0.01]
        coord.append(ball * radius + centre)
        instance.append(np.full(points, i))
    return np.concatenate(coord), np.concatenate(instance)


def test_label_free_prior_comes_near_the_labels():
    scenes = [blobs_on_a_floor(seed) for seed in range(3)]
    clouds = [coord for coord, _ in scenes]
    expected = MagnitudePrior.from_labels(scenes)

    def planes(coord):
        # Balls come down to .01 m; the wall stands at y = 0.
        return (coord[:, 2] < 0.01) | (coord[:, 1] < 0.01)

    found = MagnitudePrior.label_free(clouds, planes)
    assert found.median == pytest.approx(expected.median, rel=0.1)
    lengths = np.linalg.norm(label_free_offsets(clouds, planes), axis=1)
    assert ks_distance(lengths, expected) < 0.1
    # What stands on the floor is one cluster with it.
    assert MagnitudePrior.label_free(clouds).median > 1.2 * expected.median


def test_label_free_prior_drops_clusters_much_larger_than_the_rest():
    rng = np.random.default_rng(0)
    small = [rng.normal([3 * i, 0, 0], 0.1, (200, 3)) for i in range(6)]
    large = rng.uniform([0, 20, 0], [8, 28, 8], (2000, 3))
    cloud = [np.concatenate([*small, large])]
    kept = np.linalg.norm(label_free_offsets(cloud), axis=1)
    everything = np.linalg.norm(label_free_offsets(cloud, drop_longer=1e9), axis=1)
    assert kept.max() < 1
    assert everything.max() > 2


def test_label_free_prior_survives_empty_and_non_finite_clouds():
    coord, _ = blobs_on_a_floor(0)
    holed = coord.copy()
    holed[::50] = np.nan
    offsets = label_free_offsets([np.empty((0, 3)), holed], max_points=4000)
    assert len(offsets)
    assert np.isfinite(offsets).all()
    with pytest.raises(UserError, match="no cluster"):
        label_free_offsets([np.empty((0, 3))])


def test_uniform_directions_have_uniform_axes():
    prior = build_direction_prior("uniform_sphere")
    u = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert prior.quantile(2, u).tolist() == [-1, -0.5, 0, 1]
    assert not prior.state_dict()


def test_empirical_directions_reproduce_their_axes():
    rng = np.random.default_rng(4)
    flat = rng.normal(size=(20_000, 3)) * [1, 1, 0.1] * rng.random((20_000, 1))
    prior = DirectionPrior.empirical(np.concatenate([flat, np.zeros((5, 3))]))
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    u = torch.linspace(0.01, 0.99, 50)
    for axis in range(3):
        expected = np.quantile(unit[:, axis], u.numpy())
        np.testing.assert_allclose(prior.quantile(axis, u), expected, atol=2e-3)
    clone = build_direction_prior({"type": "table", "table": prior.direction_prior})
    assert torch.equal(clone.quantile(1, u), prior.quantile(1, u))
    assert "direction_prior" in prior.state_dict()


def test_no_direction_prior_has_no_quantiles():
    prior = build_direction_prior({"type": "none"})
    assert prior.kind == "none"
    with pytest.raises(ValueError, match="no quantiles"):
        prior.quantile(0, torch.rand(3))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (None, "must be a dict with a type"),
        ({"median": 1.0}, "must be a dict with a type"),
        ({"type": "lognormal"}, "did you mean 'log_normal'"),
        ({"type": "log_normal", "median": 1.0}, "needs sigma"),
        ({"type": "log_normal", "median": 1, "sgima": 1}, "did you mean 'sigma'"),
        ({"type": "log_normal", "median": -1, "sigma": 1}, "median must be positive"),
        ({"type": "gamma", "shape": math.nan, "scale": 1}, "shape must be positive"),
        ({"type": "gamma", "shape": "3", "scale": 1}, "shape must be a number"),
        ({"type": "empirical", "lengths": []}, "no length above zero"),
        ({"type": "empirical", "lengths": [1, math.inf]}, "finite"),
        ({"type": "empirical", "lengths": "abc"}, "numbers expected"),
        ({"type": "table", "table": [1, 2, 3]}, "1001 lengths"),
        ({"type": "table", "table": LEVELS[::-1]}, "ascending"),
        ({"type": "table", "table": np.zeros(NUM_KNOTS)}, "median length is 0"),
        ({"type": "file", "path": "nowhere.json"}, "nowhere.json: no such prior"),
    ],
)
def test_a_bad_config_is_told_in_one_line(cfg, message):
    with pytest.raises(UserError, match=message) as error:
        build_prior(cfg)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "uniform"}, "did you mean 'uniform_sphere'"),
        ({"type": "none", "table": 1}, "'table' is unknown"),
        ({"type": "table", "table": np.zeros((2, 2))}, "is \\(3, 1001\\)"),
        ({"type": "table", "table": np.full((3, NUM_KNOTS), 2.0)}, "in \\[-1, 1\\]"),
        ({"type": "empirical", "offsets": np.zeros((4, 3))}, "non-zero"),
        ({"type": "empirical", "offsets": np.zeros((4, 2))}, "must be \\(M, 3\\)"),
    ],
)
def test_a_bad_direction_config_is_told(cfg, message):
    with pytest.raises(UserError, match=message):
        build_direction_prior(cfg)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"table": [1]}', "\x00"])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.json"):
        MagnitudePrior.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "prior.json"
    MagnitudePrior.gamma(3, 0.2).save(path)
    before = path.read_text()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(UserError, match="No space left"):
        MagnitudePrior.gamma(9, 0.2).save(path)
    assert path.read_text() == before
    assert json.loads(before)["provenance"]["kind"] == "gamma"
    assert len(list(tmp_path.iterdir())) == 1


def test_lengths_that_are_all_equal_fit_no_family():
    with pytest.raises(UserError, match="empirical"):
        MagnitudePrior.fit([0.5] * 20, "gamma")
    with pytest.raises(UserError, match="did you mean 'weibull'"):
        MagnitudePrior.fit([0.5, 0.6], "weibul")
    with pytest.raises(UserError, match="3 points but 2"):
        instance_offsets(np.zeros((3, 3)), np.zeros(2))
