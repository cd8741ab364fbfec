"""Sparse convolution against a dense one."""

import pytest
import torch
import torch.nn.functional as F

from pointins_plugin.errors import UserError
from pointins_plugin.ops.sparse_conv import (
    MAX_CELL,
    sparse_conv,
    strided_map,
    submanifold_map,
)


def voxels(num, extent, clouds, seed=0):
    """Draw unique voxels in random order: cells (N, 3) and clouds (N,)."""
    generator = torch.Generator().manual_seed(seed)
    every = torch.randperm(clouds * extent**3, generator=generator)[:num]
    batch, rest = every // extent**3, every % extent**3
    cells = [rest // extent**2, rest // extent % extent, rest % extent]
    return torch.stack(cells, dim=1), batch


def dense(feature, grid, batch, extent):
    """Spread features over a dense (B, C, X, Y, Z) volume."""
    shape = (int(batch.max()) + 1, extent, extent, extent, feature.shape[1])
    volume = feature.new_zeros(shape)
    x, y, z = grid.unbind(1)
    return volume.index_put((batch, x, y, z), feature).movedim(-1, 1)


def read(volume, grid, batch):
    x, y, z = grid.unbind(1)
    return volume.movedim(1, -1)[batch, x, y, z]


def random_layer(num, inputs, outputs, kernel, dtype=torch.float64):
    torch.manual_seed(1)
    options = {"dtype": dtype, "requires_grad": True}
    feature = torch.randn(num, inputs, **options)
    weight = torch.randn(outputs, kernel, kernel, kernel, inputs, **options)
    return feature, weight, torch.randn(outputs, **options)


@pytest.mark.parametrize(("kernel", "num"), [(1, 20), (3, 1), (3, 70), (5, 70)])
def test_equals_dense_convolution_forward_and_backward(kernel, num):
    grid, batch = voxels(num, 6, clouds=2)
    feature, weight, bias = random_layer(num, 3, 4, kernel)
    pairs = submanifold_map(grid, batch, kernel)
    output = sparse_conv(feature, weight, bias, pairs)
    volume = F.conv3d(
        dense(feature, grid, batch, 6),
        weight.permute(0, 4, 1, 2, 3),
        bias,
        padding=kernel // 2,
    )
    expected = read(volume, grid, batch)
    torch.testing.assert_close(output, expected)

    seed = torch.randn_like(output)
    inputs = (feature, weight, bias)
    own = torch.autograd.grad(output, inputs, seed)
    oracle = torch.autograd.grad(expected, inputs, seed)
    for ours, theirs in zip(own, oracle, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradcheck():
    grid, batch = voxels(12, 3, clouds=2)
    pairs = submanifold_map(grid, batch)
    inputs = random_layer(12, 2, 3, 3)
    assert torch.autograd.gradcheck(lambda *args: sparse_conv(*args, pairs), inputs)


def test_clouds_do_not_touch():
    """The same cells in two clouds convolve as each cloud alone."""
    grid, batch = voxels(40, 5, clouds=1)
    feature, weight, bias = random_layer(80, 3, 3, 3)
    both = sparse_conv(
        feature,
        weight,
        bias,
        submanifold_map(torch.cat([grid, grid]), torch.cat([batch, batch + 1])),
    )
    pairs = submanifold_map(grid, batch)
    alone = [sparse_conv(part, weight, bias, pairs) for part in feature.split(40)]
    torch.testing.assert_close(both, torch.cat(alone))


def test_cells_at_the_borders_of_the_field_do_not_wrap():
    """(0, 0, MAX - 1) and (0, 1, 0) are neighbours only if an axis carries."""
    top = MAX_CELL - 1
    grid = torch.tensor([[0, 0, top], [0, 1, 0], [0, top, 0], [1, 0, 0]])
    pairs = submanifold_map(grid, torch.zeros(4, dtype=torch.long))
    linked = set(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True))
    assert linked == {(1, 3), (3, 1)}


@pytest.mark.parametrize("cell", [-1, MAX_CELL])
def test_cells_out_of_range_are_refused(cell):
    with pytest.raises(UserError, match="grid_size"):
        submanifold_map(torch.tensor([[0, 0, cell]]), torch.tensor([0]))


def test_duplicates_read_themselves_and_the_first_point_of_other_cells():
    grid = torch.tensor([[5, 5, 5], [5, 5, 6], [5, 5, 5], [5, 5, 6]])
    batch = torch.zeros(4, dtype=torch.long)
    feature = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])
    output = sparse_conv(
        feature, torch.ones(1, 3, 3, 3, 1), None, submanifold_map(grid, batch)
    )
    assert output.ravel().tolist() == [11, 11, 110, 1001]


def test_duplicates_have_exact_gradients():
    grid = torch.tensor([[5, 5, 5], [5, 5, 6], [5, 5, 5], [5, 5, 6], [5, 4, 6]])
    pairs = submanifold_map(grid, torch.zeros(5, dtype=torch.long))
    inputs = random_layer(5, 2, 2, 3)
    assert torch.autograd.gradcheck(lambda *args: sparse_conv(*args, pairs), inputs)


def test_permuting_voxels_permutes_the_output():
    grid, batch = voxels(60, 5, clouds=2)
    feature, weight, bias = random_layer(60, 4, 4, 3)
    order = torch.randperm(60)
    output = sparse_conv(feature, weight, bias, submanifold_map(grid, batch))
    permuted = sparse_conv(
        feature[order], weight, bias, submanifold_map(grid[order], batch[order])
    )
    torch.testing.assert_close(permuted, output[order])


def test_threads_do_not_change_the_result():
    grid, batch = voxels(3000, 20, clouds=2)
    feature, weight, bias = random_layer(3000, 16, 16, 3, dtype=torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 4, 2):
            torch.set_num_threads(threads)
            output = sparse_conv(feature, weight, bias, submanifold_map(grid, batch))
            grads = torch.autograd.grad(output.square().sum(), (feature, weight))
            results.append((output.detach(), *grads))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for ours, first in zip(result, results[0], strict=True):
            torch.testing.assert_close(ours, first, rtol=1e-5, atol=1e-5 * first.max())
    assert all(torch.equal(a, b) for a, b in zip(results[1], results[3], strict=True))


def test_autocast_computes_in_bfloat16():
    grid, batch = voxels(200, 8, clouds=1)
    feature, weight, bias = random_layer(200, 8, 8, 3, dtype=torch.float32)
    pairs = submanifold_map(grid, batch)
    expected = sparse_conv(feature, weight, bias, pairs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = sparse_conv(feature, weight, bias, pairs)
    assert output.dtype == torch.bfloat16
    scale = expected.abs().max().item()
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.02 * scale)
    output.sum().backward()
    assert feature.grad.dtype == weight.grad.dtype == torch.float32
    assert weight.grad.isfinite().all()


def test_no_voxels():
    pairs = submanifold_map(torch.zeros(0, 3).long(), torch.zeros(0).long())
    feature, weight, bias = random_layer(0, 2, 3, 3)
    output = sparse_conv(feature, weight, bias, pairs)
    output.sum().backward()
    assert output.shape == (0, 3)
    assert not weight.grad.any()


@pytest.mark.parametrize("stride", [2, 3])
def test_strided_equals_dense_and_its_reverse_the_transposed(stride):
    extent = 2 * stride
    grid, batch = voxels(50, extent, clouds=2)
    feature, weight, bias = random_layer(50, 3, 4, stride)
    pairs, coarse, coarse_batch = strided_map(grid, batch, stride)
    output = sparse_conv(feature, weight, bias, pairs)
    kernel = weight.permute(0, 4, 1, 2, 3)
    volume = F.conv3d(dense(feature, grid, batch, extent), kernel, bias, stride)
    expected = read(volume, coarse, coarse_batch)
    torch.testing.assert_close(output, expected)
    cells = torch.cat([coarse_batch[:, None], coarse], dim=1)
    assert cells.tolist() == sorted(cells.tolist())

    back_weight = torch.randn(3, stride, stride, stride, 4, dtype=torch.float64)
    back = sparse_conv(output, back_weight, None, pairs.reversed)
    volume = F.conv_transpose3d(
        dense(output, coarse, coarse_batch, 2),
        back_weight.permute(4, 0, 1, 2, 3),
        stride=stride,
    )
    torch.testing.assert_close(back, read(volume, grid, batch))

    loss, oracle = back.square().sum(), read(volume, grid, batch).square().sum()
    own = torch.autograd.grad(loss, (feature, weight), retain_graph=True)
    theirs = torch.autograd.grad(oracle, (feature, weight))
    torch.testing.assert_close(own, theirs)


def test_strided_sums_duplicates():
    grid = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 1]])
    pairs, coarse, _ = strided_map(grid, torch.zeros(3, dtype=torch.long), 2)
    feature = torch.tensor([[1.0], [10.0], [100.0]])
    output = sparse_conv(feature, torch.ones(1, 2, 2, 2, 1), None, pairs)
    assert output.tolist() == [[111.0]]
    assert coarse.tolist() == [[0, 0, 0]]
