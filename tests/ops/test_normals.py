"""Normals: the closed form against LAPACK, known surfaces, orientation."""

import numpy as np
import torch

from pointins_plugin.ops.normals import (
    estimate_normals,
    neighbour_normals,
    smallest_axes,
)


def test_smallest_axis_equals_eigh():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(500, 3, 3, generator=generator)
    matrix = factor @ factor.mT
    expected = torch.linalg.eigh(matrix.double())[1][:, :, 0]
    cosine = (smallest_axes(matrix).double() * expected).sum(1).abs()
    assert cosine.min() > 1 - 1e-6


def test_degenerate_matrices_give_unit_vectors():
    line = torch.diag(torch.tensor([1.0, 0, 0]))
    for matrix in (torch.zeros(1, 3, 3), torch.eye(3)[None], line[None]):
        axis = smallest_axes(matrix)
        torch.testing.assert_close(axis.norm(dim=1), torch.ones(1))
    assert abs(float(smallest_axes(line[None])[0, 0])) < 1e-6


def test_a_tilted_plane():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 400))
    coord = np.stack([x, y, 0.5 * x], axis=1)
    normal = estimate_normals(coord, k=8)
    expected = np.array([-0.5, 0, 1]) / np.sqrt(1.25)
    np.testing.assert_allclose(normal, np.tile(expected, (400, 1)), atol=1e-3)
    below = estimate_normals(coord, k=8, toward=np.array([0, 0, -5.0]))
    np.testing.assert_allclose(below, np.tile(-expected, (400, 1)), atol=1e-3)


def test_a_sphere_seen_from_outside():
    rng = np.random.default_rng(1)
    coord = rng.normal(size=(4000, 3))
    coord /= np.linalg.norm(coord, axis=1, keepdims=True)
    eye = np.array([0, 0, 10.0])
    normal = estimate_normals(coord, toward=eye)
    radial = np.abs((normal * coord).sum(1))
    assert np.median(radial) > 0.99
    assert ((normal * (eye - coord)).sum(1) >= -1e-6).all()


def test_padding_and_few_points():
    coord = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]])
    neighbour = torch.tensor([[1, 2], [0, 2], [0, 1], [-1, -1]])
    normal = neighbour_normals(coord, neighbour)
    assert torch.isfinite(normal).all()
    torch.testing.assert_close(normal[:3, 2].abs(), torch.ones(3))
    assert neighbour_normals(coord[:0], neighbour[:0]).shape == (0, 3)
    assert estimate_normals(np.zeros((1, 3))).tolist() == [[0, 0, 1]]
