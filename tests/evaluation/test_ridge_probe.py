"""Ridge in closed form beside direct solutions of the same problem."""

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.ridge_probe import (
    Moments,
    choose_penalty,
    fit_ridge,
    probe_offsets,
)

rng = np.random.default_rng(0)
MIX = rng.normal(size=(6, 6))


def scene(n=80, noise=0.0, seed=0):
    """Correlated features far from the origin, and what a linear map makes of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) @ MIX * [1, 10, 0.1, 1, 1, 1] + 5
    y = x @ np.arange(18).reshape(6, 3) / 18 + [1, -2, 3]
    return x, y + noise * rng.normal(size=y.shape)


def augmented(x, y, penalty):
    """Solve by least squares with the penalty as further rows: another way."""
    mean, std = x.mean(0), x.std(0)
    z = (x - mean) / std
    rows = np.vstack([z, np.sqrt(penalty * len(x)) * np.eye(x.shape[1])])
    targets = np.vstack([y - y.mean(0), np.zeros((x.shape[1], y.shape[1]))])
    w = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return z @ w + y.mean(0)


@pytest.mark.parametrize("penalty", [1e-6, 0.1, 10.0])
def test_ridge_is_that_of_least_squares_with_further_rows(penalty):
    x, y = scene(noise=0.5)
    found = fit_ridge(Moments.of(x, y), penalty)(x)
    np.testing.assert_allclose(found, augmented(x, y, penalty), rtol=1e-6, atol=1e-7)


def test_ridge_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = scene(noise=0.5)
    z = (x - x.mean(0)) / x.std(0)
    model = linear_model.Ridge(alpha=0.3 * len(x)).fit(z, y)
    found = fit_ridge(Moments.of(x, y), 0.3)(x)
    np.testing.assert_allclose(found, model.predict(z), rtol=1e-7, atol=1e-8)


def test_moments_of_parts_add_up_and_give_the_error():
    x, y = scene(noise=1.0)
    whole = Moments.of(x, y)
    parts = Moments.of(x[:30], y[:30]) + Moments.of(x[30:], y[30:])
    np.testing.assert_allclose(parts.xx, whole.xx)
    rest = whole - Moments.of(x[30:], y[30:])
    linear = fit_ridge(whole, 0.1)
    expected = np.square(linear(x[:30]) - y[:30]).sum()
    assert linear.error(rest) == pytest.approx(expected, rel=1e-6)


def test_a_feature_that_never_changes_does_no_harm():
    x, y = scene()
    constant = np.column_stack([x, np.full(len(x), 1e4), np.zeros(len(x))])
    linear = fit_ridge(Moments.of(constant, y), 1e-6)
    assert not linear.weight[6:].any()
    np.testing.assert_allclose(linear(constant), y, atol=1e-3)


def r2(linear, scenes):
    """By its definition, over all points pooled."""
    x, y = (np.concatenate(part) for part in zip(*scenes, strict=True))
    error = np.square(linear(x) - y).sum()
    return 1 - error / np.square(y - y.mean(0)).sum()


def test_a_linear_field_is_read_off_whole():
    linear, penalty = probe_offsets(scene(seed=seed) for seed in range(4))
    assert penalty == pytest.approx(1e-6)
    assert r2(linear, [scene(seed=9)]) == pytest.approx(1, abs=1e-6)


def test_features_that_know_nothing_score_about_zero():
    def unrelated(seed):
        rng = np.random.default_rng(seed)
        return rng.normal(size=(400, 6)), rng.normal(size=(400, 3))

    linear, _ = probe_offsets([unrelated(s) for s in range(6)])
    assert -0.05 < r2(linear, [unrelated(9)]) < 0.02


def test_with_a_huge_penalty_every_prediction_is_the_mean():
    train = [(np.array([[1.0], [2.0]]), np.array([[0, 0, 0], [2, 0, 0]]))]
    linear, penalty = probe_offsets(train, penalties=(1e12,))
    assert penalty == 1e12
    np.testing.assert_allclose(linear([[1.0], [5.0]]), [[1, 0, 0]] * 2, atol=1e-9)


def test_noise_asks_for_a_larger_penalty():
    def moments(noise):
        return [Moments.of(*scene(12, noise, seed)) for seed in range(4)]

    clean = choose_penalty(moments(0.0))
    assert clean < choose_penalty(moments(300.0))
    assert choose_penalty(moments(0.0)[:1]) == pytest.approx(1e-2)


def test_nothing_to_fit_is_an_error():
    with pytest.raises(UserError, match="no training scene"):
        probe_offsets([(np.zeros((0, 3)), np.zeros((0, 3)))])
