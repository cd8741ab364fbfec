"""Sparse convolution against a dense one."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F

from pointins_plugin.errors import UserError
from pointins_plugin.ops import sparse_conv as module
from pointins_plugin.ops.sparse_conv import (
    MAX_CELL,
    conv_shape,
    dense_weight,
    sparse_conv,
    sparse_weight,
    strided_map,
    submanifold_map,
    triple,
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


def linked(pairs):
    """List the (kernel cell, source, target) triples of a map, as voxels."""
    triples = []
    for cell, (source, target) in enumerate(
        zip(pairs.sources, pairs.targets, strict=True)
    ):
        if pairs.input_order is not None:
            source = pairs.input_order[source]
        if pairs.output_order is not None:
            target = pairs.output_order[target]
        ends = zip(source.tolist(), target.tolist(), strict=True)
        triples += [(cell, *pair) for pair in ends]
    return sorted(triples)


def random_layer(num, inputs, outputs, kernel, dtype=torch.float64):
    torch.manual_seed(1)
    options = {"dtype": dtype, "requires_grad": True}
    feature = torch.randn(num, inputs, **options)
    weight = torch.randn(outputs, *triple(kernel), inputs, **options)
    return feature, weight, torch.randn(outputs, **options)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Cut the maps of these small clouds, too: outputs that several pieces add to."""
    monkeypatch.setattr(module, "_LEAST_BITS", 4)
    monkeypatch.setattr(module, "_PAIR_BITS", 4)


def agree(own, oracle, inputs):
    """Compare outputs and the gradients of a random functional."""
    torch.testing.assert_close(own, oracle)
    seed = torch.randn_like(own)
    own_gradients = torch.autograd.grad(own, inputs, seed, retain_graph=True)
    oracle_gradients = torch.autograd.grad(oracle, inputs, seed, retain_graph=True)
    torch.testing.assert_close(own_gradients, oracle_gradients)


SIZES = [1, 2, 3, 4, 5, (3, 1, 5), (2, 3, 1), (1, 4, 3)]


@pytest.mark.parametrize("kernel", SIZES, ids=str)
@pytest.mark.parametrize(("num", "clouds"), [(1, 1), (70, 2), (150, 3)])
def test_submanifold_equals_dense(kernel, num, clouds):
    """An even kernel is padded by its half: its output has one cell too many."""
    grid, batch = voxels(num, 6, clouds)
    inputs = feature, weight, bias = random_layer(num, 3, 4, kernel)
    output = sparse_conv(feature, weight, bias, submanifold_map(grid, batch, kernel))
    padding = [edge // 2 for edge in triple(kernel)]
    volume = dense(feature, grid, batch, 6)
    volume = F.conv3d(volume, dense_weight(weight), bias, padding=padding)
    agree(output, read(volume, grid, batch), inputs)
    # an input layer: features without a gradient
    pairs = submanifold_map(grid, batch, kernel)
    own = sparse_conv(feature.detach(), weight, bias, pairs)
    agree(own, output, (weight, bias))


STRIDED = [
    # kernel, stride, padding
    (2, 2, 0),
    (3, 3, 0),
    (3, 2, 0),
    (3, 2, 1),
    (3, 1, 1),
    (4, 2, 1),
    (5, 2, 2),
    (1, 2, 0),
    (2, 3, 0),
    ((3, 2, 1), (2, 2, 1), (1, 0, 0)),
    ((1, 3, 2), (1, 1, 2), 0),
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), STRIDED, ids=str)
@pytest.mark.parametrize("extent", [6, 7])
def test_strided_and_inverse_equal_dense(kernel, stride, padding, extent):
    """Every non-zero cell of a dense output is there, at its place, and no other."""
    grid, batch = voxels(60, extent, clouds=2)
    inputs = feature, weight, bias = random_layer(60, 3, 4, kernel)
    pairs, coarse, clouds = strided_map(
        grid, batch, kernel, stride, padding, (extent,) * 3
    )
    ones = torch.ones(60, 1, dtype=torch.float64)
    options = {"stride": triple(stride), "padding": triple(padding)}
    box = torch.ones(1, 1, *triple(kernel), dtype=torch.float64)
    reached = F.conv3d(dense(ones, grid, batch, extent), box, **options)
    assert reached.shape[2:] == tuple(
        conv_shape((extent,) * 3, kernel, stride, padding)
    )
    cells = torch.cat([clouds[:, None], coarse], dim=1)
    assert cells.tolist() == reached[:, 0].nonzero().tolist()

    output = sparse_conv(feature, weight, bias, pairs)
    volume = dense(feature, grid, batch, extent)
    volume = F.conv3d(volume, dense_weight(weight), bias, **options)
    agree(output, read(volume, coarse, clouds), inputs)

    back_weight = random_layer(1, 4, 3, kernel)[1]
    back = sparse_conv(output, back_weight, None, pairs.reversed)
    volume = torch.zeros_like(volume.movedim(1, -1))
    volume = volume.index_put((clouds, *coarse.unbind(1)), output).movedim(-1, 1)
    volume = F.conv_transpose3d(
        volume,
        dense_weight(back_weight).transpose(0, 1),
        **options,
        output_padding=[
            (extent + 2 * pad - edge) % pace
            for edge, pace, pad in zip(
                triple(kernel), triple(stride), triple(padding), strict=True
            )
        ],
    )
    agree(back, read(volume, grid, batch), (feature, weight, back_weight))


def test_without_a_shape_windows_reach_over_the_end():
    grid, batch = torch.tensor([[2, 2, 2]]), torch.zeros(1, dtype=torch.long)
    pairs, coarse, _ = strided_map(grid, batch, 2)
    assert coarse.tolist() == [[1, 1, 1]]
    assert [len(source) for source in pairs.sources] == [1, 0, 0, 0, 0, 0, 0, 0]
    _, coarse, _ = strided_map(grid, batch, 2, spatial_shape=(3, 3, 3))
    assert coarse.tolist() == []


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
    assert sorted(ends for _, *ends in linked(pairs)) == [[1, 3], [3, 1]]


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


def test_threads_do_not_change_the_result(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_BITS", 9)
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


def test_half_precision_counts_on_in_weight_gradients():
    """Thousands of pieces add up: a sum in bfloat16 would stop growing."""
    grid, batch = voxels(6000, 20, clouds=1)
    pairs = submanifold_map(grid, batch)
    feature = torch.ones(6000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(1, 3, 3, 3, 1, dtype=torch.bfloat16, requires_grad=True)
    sparse_conv(feature, weight, None, pairs).sum().backward()
    expected = [len(source) or 6000 for source in pairs.sources]
    expected = torch.tensor(expected, dtype=torch.bfloat16).view(weight.shape)
    assert weight.grad.equal(expected)


def test_no_voxels():
    pairs = submanifold_map(torch.zeros(0, 3).long(), torch.zeros(0).long())
    feature, weight, bias = random_layer(0, 2, 3, 3)
    output = sparse_conv(feature, weight, bias, pairs)
    output.sum().backward()
    assert output.shape == (0, 3)
    assert not weight.grad.any()


def test_strided_sums_duplicates():
    grid = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 1]])
    pairs, coarse, _ = strided_map(grid, torch.zeros(3, dtype=torch.long), 2)
    feature = torch.tensor([[1.0], [10.0], [100.0]])
    output = sparse_conv(feature, torch.ones(1, 2, 2, 2, 1), None, pairs)
    assert output.tolist() == [[111.0]]
    assert coarse.tolist() == [[0, 0, 0]]


def test_weights_turn_into_a_dense_convolution_and_back():
    conv = torch.nn.Conv3d(3, 5, (1, 2, 3))
    weight = sparse_weight(conv.weight)
    assert weight.shape == (5, 1, 2, 3, 3)
    assert weight[4, 0, 1, 2, 0] == conv.weight[4, 0, 0, 1, 2]
    assert dense_weight(weight).equal(conv.weight)


def test_sizes_have_one_number_or_three():
    assert triple(3) == (3, 3, 3)
    with pytest.raises(ValueError, match="three"):
        triple((1, 2))


@pytest.mark.parametrize("kernel", [3, 4])
def test_blocks_partition_the_pairs(kernel):
    grid, batch = voxels(90, 6, clouds=2)
    pairs = submanifold_map(grid, batch, kernel)
    first, in_blocks = 0, []
    for block in pairs.blocks:
        assert block.first == first
        first = block.last
        for cell, source, target in block.pieces:
            in_blocks.append((cell, source, target))
            assert len(target.unique()) == len(target)
            assert len(source.unique()) == len(source)
        total = sum(len(source) for _, source, _ in block.pieces)
        assert block.rows.sort().values.tolist() == list(range(total))
    assert first == 90
    assert len(pairs.blocks) == 6
    for cell, ends in enumerate(zip(pairs.sources, pairs.targets, strict=True)):
        parts = [pair for here, *pair in in_blocks if here == cell]
        if parts:
            found = [torch.cat(part) for part in zip(*parts, strict=True)]
            assert all(a.equal(b) for a, b in zip(found, ends, strict=True))
        else:
            assert not len(ends[0])


@pytest.mark.parametrize("kernel", [3, 2, (3, 1, 5)], ids=str)
def test_the_reverse_has_the_same_pairs(kernel):
    grid, batch = voxels(90, 6, clouds=2)
    maps = [submanifold_map(grid, batch, kernel), strided_map(grid, batch, kernel)[0]]
    for pairs in maps:
        back = pairs.reversed
        assert back.reversed is pairs
        assert (back.num_inputs, back.num_outputs) == (pairs.num_outputs, 90)
        there = [(cell, target, source) for cell, source, target in linked(pairs)]
        assert linked(back) == sorted(there)


def test_maps_are_freed_with_their_last_user():
    """No reference cycle: the maps of a training step go when it is over."""
    grid, batch = voxels(60, 6, clouds=1)
    for build in (
        lambda: submanifold_map(grid, batch),
        lambda: strided_map(grid, batch, 2)[0],
    ):
        gc.disable()
        try:
            pairs = build()
            alive = [weakref.ref(pairs), weakref.ref(pairs.reversed)]
            assert alive[1]().reversed is pairs
            del pairs
            assert [ref() for ref in alive] == [None, None]
        finally:
            gc.enable()


def test_a_reversed_map_outlives_its_origin():
    grid, batch = voxels(60, 6, clouds=2)
    back = strided_map(grid, batch, 2)[0].reversed
    feature, weight, bias = random_layer(back.num_inputs, 2, 3, 2)
    sparse_conv(feature, weight, bias, back).sum().backward()
    assert feature.grad.abs().sum() > 0
