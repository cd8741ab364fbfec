"""ODR: order kept, quantiles of the prior, ties, directions, degenerate input."""

import pytest
import torch

from pointins_plugin.losses.odr import (
    ODRLoss,
    empirical_quantile,
    random_rotations,
    regularize_offset,
)
from pointins_plugin.priors import DirectionPrior, PriorBuffer, build_prior


@pytest.fixture
def prior():
    return PriorBuffer(build_prior({"type": "log_normal", "median": 0.4, "sigma": 0.5}))


def offsets(n=2000, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def lengths(x):
    return torch.linalg.vector_norm(x, dim=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_quantiles_by_hand():
    values = torch.tensor([3.0, 1.0, 2.0, 9.0, 8.0])
    batch = torch.tensor([0, 0, 0, 1, 1])
    expected = torch.tensor([5 / 6, 1 / 6, 3 / 6, 3 / 4, 1 / 4])
    torch.testing.assert_close(empirical_quantile(values, batch), expected)
    pooled = torch.tensor([0.5, 0.1, 0.3, 0.9, 0.7])
    torch.testing.assert_close(empirical_quantile(values), pooled)


def test_lengths_take_the_prior_and_keep_their_order(prior):
    offset = offsets()
    regular = regularize_offset(offset, prior, direction="none")
    order = torch.argsort(lengths(offset))
    assert (torch.diff(lengths(regular)[order]) >= 0).all()
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    found = torch.quantile(lengths(regular), levels)
    torch.testing.assert_close(found, prior.quantile(levels), rtol=5e-3, atol=0)
    cosine = torch.cosine_similarity(offset, regular)
    torch.testing.assert_close(cosine, torch.ones(len(offset)))


def test_offsets_that_follow_the_prior_are_a_fixed_point(prior):
    once = regularize_offset(offsets(), prior, direction="none")
    twice = regularize_offset(once, prior, direction="none")
    torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-6)


def test_permutation_of_points_permutes_the_target(prior):
    offset = offsets(300)
    batch = torch.arange(300) % 3
    shuffle = torch.randperm(300, generator=seeded(1))
    target = regularize_offset(offset, prior, batch=batch)
    moved = regularize_offset(offset[shuffle], prior, batch=batch[shuffle])
    torch.testing.assert_close(moved, target[shuffle])


def test_clouds_are_ranked_alone(prior):
    offset = offsets(200)
    offset[100:] *= 10
    batch = torch.arange(200) // 100
    both = regularize_offset(offset, prior, direction="none", batch=batch)
    alone = regularize_offset(offset[100:], prior, direction="none")
    torch.testing.assert_close(both[100:], alone)


def test_ties_do_not_follow_the_order_of_points():
    tied = torch.ones(2000)
    u = empirical_quantile(tied, generator=seeded(4))
    index = torch.arange(2000.0)
    correlation = torch.corrcoef(torch.stack([u, index]))[0, 1]
    assert abs(float(correlation)) < 0.1
    again = empirical_quantile(tied, generator=seeded(4))
    other = empirical_quantile(tied, generator=seeded(5))
    assert torch.equal(u, again)
    assert not torch.equal(u, other)


def test_directions_are_spread(prior):
    """What is left of a cone by the second moment, 1/3 thrice on the sphere."""
    cone = offsets() * 0.3 + torch.tensor([1.0, 1.0, 1.0])
    moments = {}
    for direction in ("none", "axis", "random_rotation"):
        regular = regularize_offset(
            cone, prior, direction=direction, rounds=20, generator=seeded()
        )
        unit = torch.nn.functional.normalize(regular, dim=1)
        moments[direction] = torch.linalg.eigvalsh(unit.t() @ unit / len(unit))
        quantile = torch.quantile(lengths(regular), torch.tensor([0.1, 0.9]))
        expected = prior.quantile(torch.tensor([0.1, 0.9]))
        torch.testing.assert_close(quantile, expected, rtol=1e-2, atol=0)
    assert moments["none"][2] > 0.9
    # axis by axis the diagonal becomes a disc, random rotations fill the sphere
    assert moments["axis"][0] < 0.05
    third = torch.full((3,), 1 / 3)
    torch.testing.assert_close(moments["random_rotation"], third, atol=0.01, rtol=0)


@pytest.mark.parametrize("direction", ["none", "axis", "random_rotation"])
def test_zero_single_and_empty_input_is_finite(prior, direction):
    for offset in (torch.zeros(5, 3), torch.zeros(0, 3), torch.ones(1, 3)):
        regular = regularize_offset(offset, prior, direction=direction)
        assert regular.shape == offset.shape
        assert torch.isfinite(regular).all()
    assert (regularize_offset(torch.zeros(5, 3), prior, direction=direction) == 0).all()
    single = regularize_offset(torch.ones(1, 3), prior, direction=direction)
    torch.testing.assert_close(lengths(single)[0], prior.quantile(torch.tensor(0.5)))


def test_rotations_are_proper_and_uniform():
    rotation = random_rotations(4000, seeded())
    eye = torch.eye(3).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4000))
    assert rotation.mean(0).abs().max() < 0.05


def test_target_mode_is_the_distance_to_the_regularized_teacher(prior):
    loss = ODRLoss(
        direction="none", prior={"type": "log_normal", "median": 0.4, "sigma": 0.5}
    )
    teacher = offsets(100)
    target = loss.regularize(teacher)
    assert loss(target, teacher) == pytest.approx(0, abs=1e-5)
    assert loss(target * 1.5, teacher) > 0.1
    student = target.clone().requires_grad_()
    loss(student * 1.1, teacher).backward()
    assert student.grad.abs().sum() > 0


def test_distribution_mode_is_zero_on_the_prior_and_falls_towards_it(prior):
    loss = ODRLoss(mode="distribution", num_projections=64)
    sphere = torch.nn.functional.normalize(offsets(5000), dim=1)
    on_prior = regularize_offset(sphere * torch.rand(5000, 1), prior, direction="none")
    at = loss(on_prior, prior=prior, generator=seeded())
    assert at < 2e-3
    assert loss(on_prior * 1.5, prior=prior, generator=seeded()) > 0.1
    flat = on_prior * torch.tensor([1.0, 1.0, 0.05])
    assert loss(flat, prior=prior, generator=seeded()) > at + 0.01

    student = (offsets(500, seed=3) * 0.1 + 0.2).requires_grad_()
    before = loss(student, prior=prior, generator=seeded())
    (gradient,) = torch.autograd.grad(before, student)
    after = loss(student - 5.0 * gradient, prior=prior, generator=seeded())
    assert after < before


def test_distribution_gradient_in_float64(prior):
    student = offsets(8, seed=6).double().requires_grad_()
    batch = torch.arange(8) // 4
    loss = ODRLoss(mode="distribution", num_projections=3)

    def value(x):
        return loss(x, batch=batch, num_clouds=2, prior=prior, generator=seeded(1))

    assert torch.autograd.gradcheck(value, (student,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("mode", ["target", "distribution"])
@pytest.mark.parametrize("num", [0, 1, 4])
def test_degenerate_students_give_finite_gradients(prior, mode, num):
    student = torch.zeros(num, 3, requires_grad=True)
    loss = ODRLoss(mode=mode)(student, torch.zeros(num, 3), prior=prior)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_bad_choices_name_the_argument():
    with pytest.raises(ValueError, match="direction must be one of"):
        ODRLoss(direction="sphere")
    with pytest.raises(ValueError, match="mode must be one of"):
        ODRLoss(mode="loss")
    with pytest.raises(ValueError, match="no magnitude prior"):
        ODRLoss()(torch.ones(2, 3), torch.ones(2, 3))


def test_a_direction_prior_that_would_not_be_used_is_refused():
    table = DirectionPrior.empirical(torch.randn(50, 3).numpy())
    ODRLoss(direction="axis", direction_prior=table)
    for options in ({"direction": "random_rotation"}, {"mode": "distribution"}):
        with pytest.raises(ValueError, match="uniform sphere only"):
            ODRLoss(direction_prior=table, **options)
        ODRLoss(direction_prior={"type": "uniform_sphere"}, **options)
    with pytest.raises(ValueError, match="leaves directions alone"):
        ODRLoss(direction="none", direction_prior=table)
    assert ODRLoss(direction_prior={"type": "none"}).direction == "none"
