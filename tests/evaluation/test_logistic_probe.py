"""Logistic regression beside a library's, and how its penalty is chosen."""

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.logistic_probe import choose_penalty, fit_logistic


def points(n=400, noise=1.0, seed=0, classes=4):
    """Correlated features far from the origin, and classes that hang on them."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.Generator().manual_seed(99)
    mix = torch.randn(6, 6, generator=mixed)
    axes = torch.randn(6, classes, generator=mixed)
    x = torch.randn(n, 6, generator=generator)
    label = (x @ axes + noise * torch.randn(n, classes, generator=generator)).argmax(1)
    return (x @ mix) * torch.tensor([1, 10, 0.1, 1, 1, 1]) + 5, label


def gradient(feature, label, fitted, penalty, classes):
    """Of what is minimised, in float64, at the solution."""
    x = feature.double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    unit = (x - mean) / deviation
    weight = torch.from_numpy(fitted.weight) * deviation[:, None]
    bias = torch.from_numpy(fitted.bias) + mean @ torch.from_numpy(fitted.weight)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    loss = torch.nn.functional.cross_entropy(unit @ weight + bias, label)
    (loss + penalty * weight.square().sum()).backward()
    return weight.grad, bias.grad


@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_the_gradient_vanishes_at_the_solution(penalty):
    x, label = points()
    fitted = fit_logistic(x, label, 4, penalty)
    for part in gradient(x, label, fitted, penalty, 4):
        assert part.abs().max() < 1e-4


def test_logits_are_those_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, label = points()
    unit = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    model = linear_model.LogisticRegression(C=1 / (2 * 0.01 * len(x)), tol=1e-8)
    expected = model.fit(unit, label.numpy()).predict_proba(unit)
    logits = torch.from_numpy(fit_logistic(x, label, 4, 0.01)(x.numpy()))
    np.testing.assert_allclose(logits.softmax(1).numpy(), expected, atol=1e-3)


def test_a_class_without_points_is_not_predicted():
    x, label = points()
    logits = fit_logistic(x, label, 6, 1e-3)(x.numpy())
    assert logits.shape == (400, 6)
    assert logits.argmax(1).max() < 4


def test_a_feature_that_never_changes_does_no_harm():
    x, label = points()
    constant = torch.cat([x, torch.full((400, 1), 1e4), torch.zeros(400, 1)], 1)
    fitted = fit_logistic(constant, label, 4, 1e-3)
    assert not fitted.weight[6:].any()
    plain = fit_logistic(x, label, 4, 1e-3)
    np.testing.assert_allclose(
        fitted(constant.numpy()), plain(x.numpy()), rtol=1e-2, atol=1e-2
    )


def test_without_penalty_features_that_never_change_do_no_harm():
    x, label = points(noise=20.0)
    constant = torch.cat([x, torch.ones(400, 1)], 1)
    assert np.isfinite(fit_logistic(constant, label, 4, 0.0).weight).all()


def test_noise_asks_for_a_larger_penalty():
    def chosen(noise):
        x, label = points(400, noise)
        return choose_penalty(x, label, torch.arange(400) // 20, 4)

    assert chosen(0.0) < chosen(20.0)
    x, label = points(40)
    middle = choose_penalty(x, label, torch.zeros(40).long(), 4)
    assert middle == pytest.approx(10**-3.5)


def test_scenes_are_left_out_whole():
    """Features that name their scene are worth nothing on another."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.arange(3000) // 50
    usual = torch.randint(3, (60,), generator=generator)[scene]
    odd = torch.rand(3000, generator=generator) >= 0.95
    other = torch.randint(3, (3000,), generator=generator)
    label = torch.where(odd, other, usual)
    name = torch.randn(60, 40, generator=generator)[scene]
    sign = torch.eye(3)[label] + torch.randn(3000, 3, generator=generator)
    feature = torch.cat([name, sign], dim=1)
    assert choose_penalty(feature, label, scene, 3) >= 1e-2
    mixed = torch.arange(3000) % 50 // 5  # every part holds points of all scenes
    assert choose_penalty(feature, label, mixed, 3) <= 1e-3


def test_correlated_features_are_fitted_to_the_end():
    """Of a smooth spectrum, as a backbone's: 200 rounds find what many more do."""
    generator = torch.Generator().manual_seed(2)
    mix = torch.linalg.qr(torch.randn(40, 40, generator=generator)).Q
    mix = mix * torch.logspace(0, -4, 40)
    x = torch.randn(3000, 40, generator=generator) @ mix
    x = x @ torch.randn(40, 40, generator=generator)
    label = (x[:, :5] + 0.1 * torch.randn(3000, 5, generator=generator)).argmax(1)
    fitted = fit_logistic(x, label, 5, 1e-6)
    # on the features as they are 200 rounds leave three times as much
    for part in gradient(x, label, fitted, 1e-6, 5):
        assert part.abs().max() < 3e-5


def test_the_penalty_is_best_by_mean_iou_on_the_scenes_left_out():
    """With a rare class neither cross-entropy nor accuracy would choose the same."""
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(19)
    shares = torch.tensor([0.6, 0.36, 0.04])
    label = torch.multinomial(shares, 1500, replacement=True, generator=generator)
    axes = torch.randn(3, 30, generator=generator) / 6**0.5
    x = axes[label] + torch.randn(1500, 30, generator=generator)
    scene = torch.arange(1500) // 30
    out = torch.isin(scene, torch.arange(0, 50, 5))
    penalties = (1e-5, 1e-4, 1e-3, 1e-2, 0.1)
    scores = {"iou": {}, "accuracy": {}, "likelihood": {}}
    for penalty in penalties:
        fitted = fit_logistic(x[~out], label[~out], 3, penalty)
        logits = torch.from_numpy(fitted(x[out].numpy()))
        found, truth = logits.argmax(1), label[out]
        loss = torch.nn.functional.cross_entropy(logits, truth)
        scores["iou"][penalty] = metrics.jaccard_score(truth, found, average="macro")
        scores["accuracy"][penalty] = float((found == truth).float().mean())
        scores["likelihood"][penalty] = -float(loss)
    best = {key: max(found, key=found.get) for key, found in scores.items()}
    assert best == {"iou": 1e-3, "accuracy": 1e-2, "likelihood": 1e-2}
    assert choose_penalty(x, label, scene, 3, penalties) == 1e-3


def test_a_class_that_is_not_left_out_does_not_sway_the_penalty():
    """One point taken for it or a hundred: means are over as many classes."""
    x, label = points(600, 2.0, seed=23)
    scene = torch.arange(600) // 20
    out = torch.isin(scene, torch.arange(0, 30, 5))
    kept = ~(out & (label == 3))
    x, label, scene, out = x[kept], label[kept], scene[kept], out[kept]
    penalties = (1e-3, 1e-2, 0.1, 1.0)

    def score(penalty):
        found = fit_logistic(x[~out], label[~out], 4, penalty)(x[out].numpy()).argmax(1)
        truth = label[out].numpy()
        both = [((found == k) & (truth == k)).sum() for k in range(3)]
        either = [((found == k) | (truth == k)).sum() for k in range(3)]
        return np.divide(both, either).sum()

    assert choose_penalty(x, label, scene, 4, penalties) == max(penalties, key=score)


def test_nothing_to_fit_is_an_error():
    with pytest.raises(UserError, match="no training point"):
        fit_logistic(torch.zeros(0, 3), torch.zeros(0).long(), 4, 1.0)
