"""Affine maps of views: inverse, vectors, recovery from coordinates."""

import math

import pytest
import torch

from pointins_plugin.ops import affine as affine_ops
from pointins_plugin.ops.affine import fit_affine, inverse_linear, transform_vectors


def example():
    """A rotation by 90 degrees, scaled by 2 and flipped in x (determinant < 0)."""
    c, s = math.cos(math.pi / 2), math.sin(math.pi / 2)
    rotation = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    affine = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    affine[0, :3, :3] = 2 * rotation @ torch.diag(torch.tensor([-1.0, 1, 1]).double())
    affine[0, :3, 3] = torch.tensor([5.0, 6, 7])
    return affine


def test_vectors_ignore_the_translation_and_return():
    affine = example()
    batch = torch.tensor([0, 0, 1])
    vectors = torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 2, 3]])
    moved = transform_vectors(affine[:, :3, :3], vectors, batch)
    expected = torch.tensor([[0.0, -2, 0], [0, 0, 2], [1, 2, 3]])
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)
    back = transform_vectors(inverse_linear(affine), moved, batch)
    torch.testing.assert_close(back, vectors, atol=1e-6, rtol=0)


def test_recovers_the_matrix_under_jitter():
    affine = example()
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    batch = torch.arange(4000) % 2
    target = torch.einsum("nij,nj->ni", affine[batch, :3, :3], source)
    target = target + affine[batch, :3, 3]
    torch.testing.assert_close(fit_affine(source, target, batch, 2), affine)
    noisy = target + 0.005 * torch.randn(4000, 3, generator=generator).double()
    found = fit_affine(source, noisy, batch, 2)
    torch.testing.assert_close(found, affine, atol=1e-3, rtol=0)


def test_flat_and_empty_clouds_are_finite():
    source = torch.rand(50, 3)
    source[:, 2] = 0
    found = fit_affine(source, source, torch.zeros(50, dtype=torch.long), 2)
    assert torch.isfinite(found).all()
    moved = source.double() @ found[0, :3, :3].t() + found[0, :3, 3]
    torch.testing.assert_close(moved, source.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1], torch.eye(4, dtype=torch.float64))


def test_flat_clouds_get_a_map_that_can_be_inverted():
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(200, 3, generator=generator, dtype=torch.float64)
    batch = torch.arange(200) // 50
    source[batch == 0, 2] = 0.3  # a floor
    source[batch == 1, 1:] = 0.3  # a line
    source[batch == 2] = 0.3  # one place
    target = source * torch.tensor([-2.0, 2.0, 2.0]).double() + 1
    found = fit_affine(source, target, batch, 4)
    moved = torch.einsum("nij,nj->ni", found[batch, :3, :3], source)
    torch.testing.assert_close(moved + found[batch, :3, 3], target)
    # the floor's normal is turned no more than need be, and stretched as the floor is
    torch.testing.assert_close(found[0, :3, :3], torch.diag(source.new([-2, 2, 2])))
    assert (torch.linalg.det(found[:, :3, :3]).abs() > 0.1).all()
    assert torch.isfinite(inverse_linear(found)).all()


def test_a_singular_map_raises_on_the_cpu_and_is_nan_on_a_gpu(monkeypatch):
    maps = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    maps[1, 0, 0] = 0
    with pytest.raises(torch.linalg.LinAlgError):
        inverse_linear(maps)
    monkeypatch.setattr(affine_ops, "on_gpu", lambda tensor: True)
    found = inverse_linear(maps)
    assert torch.equal(found[0], torch.eye(3, dtype=torch.float64))
    assert found[1].isnan().all()
