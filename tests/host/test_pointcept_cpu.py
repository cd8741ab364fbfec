"""Substitutes for compiled packages beside brute force, and what is put in place."""

import itertools
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pointins_plugin.host.pointcept_cpu import (
    finder,
    legacy,
    patches,
    spconv_kernels,
)
from pointins_plugin.host.pointcept_cpu.substitutes import (
    flash_attn,
    pointgroup_ops,
    pointops_kernels,
    timm,
    torch_cluster,
    torch_geometric,
    torch_scatter,
)

ROOT = Path(__file__).resolve().parents[2]
COUNTS = (60, 3, 41)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def clouds():
    """Points (N, 3) of clouds, one of them tiny, and where they end."""
    coord = torch.rand(sum(COUNTS), 3)
    return coord, torch.tensor(COUNTS).cumsum(0).int()


def each(offset):
    ends = offset.tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


# pointops


def queries(offset, count=5):
    new = torch.rand(count * len(offset), 3)
    return new, torch.arange(1, len(offset) + 1).int() * count


def test_knn_query_equals_brute_force(clouds):
    coord, offset = clouds
    new, new_offset = queries(offset)
    index = torch.empty(len(new), 6, dtype=torch.int)
    square = torch.empty(len(new), 6)
    pointops_kernels.knn_query_cuda(
        len(new), 6, coord, new, offset, new_offset, index, square
    )
    for (first, last), (start, end) in zip(each(offset), each(new_offset), strict=True):
        distance = torch.cdist(new[start:end], coord[first:last]).square()
        expected, order = distance.sort(dim=1)
        near = min(6, last - first)
        assert torch.equal(index[start:end, :near].long(), order[:, :near] + first)
        torch.testing.assert_close(
            square[start:end, :near], expected[:, :near], atol=1e-6, rtol=1e-5
        )
        assert (index[start:end, near:] == -1).all()
        assert (square[start:end, near:] == 1e10).all()


def shell(square, low, high):
    return (square <= 1e-5) | ((square >= low**2) & (square < high**2))


@pytest.mark.parametrize("nsample", [4, 64])
def test_ball_query_keeps_every_so_manieth_of_the_sorted(clouds, nsample):
    coord, offset = clouds
    index = torch.empty(len(coord), nsample, dtype=torch.int)
    square = torch.empty(len(coord), nsample)
    pointops_kernels.ball_query_cuda(
        len(coord), nsample, 0.1, 0.5, coord, coord, offset, offset, index, square
    )
    for first, last in each(offset):
        for query in range(first, last):
            exact = (coord[first:last] - coord[query]).square().sum(-1)
            inside = shell(exact, 0.1, 0.5).nonzero().squeeze(1)
            inside = inside[exact[inside].argsort()]
            step = max(len(inside) / nsample, 1)
            taken = [int(step * i) for i in range(nsample)]
            expected = inside[[i for i in taken if i < len(inside)]]
            found = index[query][index[query] >= 0]
            assert torch.equal(found.long(), expected + first)
            torch.testing.assert_close(square[query][: len(found)], exact[expected])
            assert query in found


def test_random_ball_query_takes_the_first_of_the_order(clouds):
    coord, offset = clouds
    order = torch.cat([torch.randperm(b - a) + a for a, b in each(offset)]).int()
    index = torch.empty(len(coord), 5, dtype=torch.int)
    square = torch.empty(len(coord), 5)
    pointops_kernels.random_ball_query_cuda(
        len(coord), 5, 0.1, 0.5, order, coord, coord, offset, offset, index, square
    )
    for first, last in each(offset):
        turn = order[first:last].long()
        for query in range(first, last):
            exact = (coord[turn] - coord[query]).square().sum(-1)
            expected = turn[shell(exact, 0.1, 0.5)][:5]
            found = index[query][index[query] >= 0]
            assert torch.equal(found.long(), expected)


def test_farthest_point_sampling_equals_its_definition(clouds):
    coord, offset = clouds
    number = torch.tensor([7, 2, 11])
    new_offset = number.cumsum(0).int()
    index = torch.zeros(int(number.sum()), dtype=torch.int)
    tmp = torch.empty(len(coord))
    pointops_kernels.farthest_point_sampling_cuda(
        3, max(COUNTS), coord, offset, new_offset, tmp, index
    )
    for (first, last), (start, end) in zip(each(offset), each(new_offset), strict=True):
        chosen = [first]
        while len(chosen) < end - start:
            distance = torch.cdist(coord[first:last], coord[chosen]).amin(1)
            chosen.append(int(distance.argmax()) + first)
        assert index[start:end].tolist() == chosen


def autograd(forward, *inputs):
    """Return an expression's value and gradients for a random gradient of it."""
    inputs = [value.clone().requires_grad_() for value in inputs]
    out = forward(*inputs)
    grad = torch.randn_like(out)
    return out.detach(), grad, torch.autograd.grad(out, inputs, grad)


def neighbours(points, near):
    return torch.randint(points, (points, near), dtype=torch.int)


def test_grouping_and_interpolation_equal_indexing():
    idx, values, weight = neighbours(9, 4), torch.randn(9, 5), torch.rand(9, 4)
    out, grad, (expected,) = autograd(lambda v: v[idx.long()], values)
    result, back = torch.zeros(9, 4, 5), torch.zeros(9, 5)
    pointops_kernels.grouping_forward_cuda(9, 4, 5, values, idx, result)
    pointops_kernels.grouping_backward_cuda(9, 4, 5, grad, idx, back)
    torch.testing.assert_close((result, back), (out, expected))
    out, grad, (expected,) = autograd(
        lambda v: (v[idx.long()] * weight[..., None]).sum(1), values
    )
    result, back = torch.zeros(9, 5), torch.zeros(9, 5)
    pointops_kernels.interpolation_forward_cuda(9, 5, 4, values, idx, weight, result)
    pointops_kernels.interpolation_backward_cuda(9, 5, 4, grad, idx, weight, back)
    torch.testing.assert_close((result, back), (out, expected))


def test_subtraction_equals_indexing():
    idx, one, two = neighbours(9, 4), torch.randn(9, 5), torch.randn(9, 5)
    out, grad, expected = autograd(lambda a, b: a[:, None] - b[idx.long()], one, two)
    result, back = torch.zeros(9, 4, 5), (torch.zeros(9, 5), torch.zeros(9, 5))
    pointops_kernels.subtraction_forward_cuda(9, 4, 5, one, two, idx, result)
    pointops_kernels.subtraction_backward_cuda(9, 4, 5, idx, grad, *back)
    torch.testing.assert_close((result, back), (out, expected))


def test_aggregation_equals_indexing():
    idx, values = neighbours(9, 4), torch.randn(9, 6)
    position, weight = torch.randn(9, 4, 6), torch.randn(9, 4, 2)

    def expression(values, position, weight):
        # channel i has the weight of group i mod 2
        return ((values[idx.long()] + position) * weight.repeat(1, 1, 3)).sum(1)

    out, grad, expected = autograd(expression, values, position, weight)
    result = torch.zeros(9, 6)
    back = tuple(torch.zeros_like(t) for t in (values, position, weight))
    sizes, arrays = (9, 4, 6, 2), (values, position, weight, idx)
    pointops_kernels.aggregation_forward_cuda(*sizes, *arrays, result)
    pointops_kernels.aggregation_backward_cuda(*sizes, *arrays, grad, *back)
    torch.testing.assert_close((result, back), (out, expected))


def test_attention_steps_equal_indexing():
    target, refer = (torch.randint(9, (30,), dtype=torch.int) for _ in range(2))
    query, key, scale = torch.randn(9, 2, 5), torch.randn(9, 2, 5), torch.randn(5)
    out, grad, expected = autograd(
        lambda q, k, w: (q[target.long()] * k[refer.long()] * w).sum(-1),
        query,
        key,
        scale,
    )
    result = torch.zeros(30, 2)
    back = [torch.zeros_like(t) for t in (query, key, scale)]
    pointops_kernels.attention_relation_step_forward_cuda(
        30, 2, 5, query, key, scale, target, refer, result
    )
    interleaved = [query, back[0], key, back[1], scale, back[2]]
    pointops_kernels.attention_relation_step_backward_cuda(
        30, 2, 5, *interleaved, target, refer, grad
    )
    torch.testing.assert_close((result, tuple(back)), (out, expected))
    weight, value = torch.randn(30, 2), torch.randn(9, 2, 5)
    out, grad, expected = autograd(
        lambda w, v: torch.zeros(9, 2, 5).index_add(
            0, target.long(), w[..., None] * v[refer.long()]
        ),
        weight,
        value,
    )
    result = torch.zeros(9, 2, 5)
    back = torch.zeros_like(weight), torch.zeros_like(value)
    pointops_kernels.attention_fusion_step_forward_cuda(
        30, 2, 5, weight, value, target, refer, result
    )
    pointops_kernels.attention_fusion_step_backward_cuda(
        30, 2, 5, weight, back[0], value, back[1], target, refer, grad
    )
    torch.testing.assert_close((result, back), (out, expected))


# pointgroup_ops


def ball_query_by_force(coord, offset, radius, most=1000):
    neighbours = []
    for first, last in each(offset):
        for query in range(first, last):
            square = (coord[first:last] - coord[query]).square()
            square = square[:, 0] + square[:, 1] + square[:, 2]
            inside = (square < torch.tensor(radius).square()).nonzero().squeeze(1)
            neighbours.append((inside[:most] + first).tolist())
    return neighbours


def cluster_by_force(label, neighbours, threshold):
    visited, clusters = set(), []
    for seed in range(len(label)):
        if seed in visited:
            continue
        cluster = [seed]
        visited.add(seed)
        for point in cluster:
            for near in neighbours[point]:
                if near not in visited and label[near] == label[point]:
                    visited.add(near)
                    cluster.append(near)
        if len(cluster) >= threshold:
            clusters.append(cluster)
    return clusters


def group(coord, offset, radius, label, threshold):
    starts = F.pad(offset, (1, 0))
    batch = torch.repeat_interleave(torch.arange(len(offset)), starts.diff()).int()
    idx, start_len = pointgroup_ops.ballquery_batch_p(coord, batch, starts, radius, 300)
    found = [idx[s : s + n].tolist() for s, n in start_len.tolist()]
    pairs, bounds = pointgroup_ops.bfs_cluster(label, idx, start_len, threshold)
    parts = [pairs[a:b, 1].tolist() for a, b in itertools.pairwise(bounds.tolist())]
    assert pairs[:, 0].tolist() == [i for i, part in enumerate(parts) for _ in part]
    return found, parts


@pytest.mark.parametrize("radius", [0.05, 0.16, 0.4])
def test_pointgroup_equals_brute_force(clouds, radius):
    coord, offset = clouds
    label = torch.randint(2, (len(coord),), dtype=torch.int)
    found, parts = group(coord, offset, radius, label, 3)
    expected = ball_query_by_force(coord, offset, radius)
    assert found == expected
    assert parts == cluster_by_force(label, expected, 3)


def test_pointgroup_keeps_a_thousand_neighbours():
    """Of a collapsed instance the first thousand points know the rest not."""
    coord = torch.rand(1300, 3) * 0.01
    coord[1250:] += 0.9
    offset = torch.tensor([1300], dtype=torch.int)
    label = torch.zeros(1300, dtype=torch.int)
    found, parts = group(coord, offset, 0.5, label, 1)
    expected = ball_query_by_force(coord, offset, 0.5)
    assert max(map(len, found)) == 1000
    assert found == expected
    assert parts == cluster_by_force(label, expected, 1)
    assert len(parts) == 1 + 250 + 1


def test_pointgroup_radius_is_outside():
    coord = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1.5, 0, 0]])
    offset = torch.tensor([3], dtype=torch.int)
    found, parts = group(coord, offset, 1.0, torch.zeros(3, dtype=torch.int), 2)
    assert found == [[0], [1, 2], [1, 2]]
    assert parts == [[1, 2]]


def test_pointgroup_without_points():
    offset = torch.tensor([0], dtype=torch.int)
    found, parts = group(torch.empty(0, 3), offset, 1.0, torch.empty(0).int(), 2)
    assert found == []
    assert parts == []


# torch_scatter


INDEX = torch.tensor([0, 0, 2, 2, 2, 5])


def members():
    return [INDEX == group for group in range(6)]


@pytest.mark.parametrize(
    ("reduce", "kind", "empty"),
    [
        ("sum", torch.sum, 0),
        ("mean", torch.mean, 0),
        ("mul", torch.prod, 1),
        ("min", torch.amin, 0),
        ("max", torch.amax, 0),
    ],
)
def test_scatter_and_segments_reduce_their_groups(reduce, kind, empty):
    src = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.stack(
        [kind(src[m], 0) if m.any() else src.new_full((3,), empty) for m in members()]
    )
    indptr = F.pad(torch.bincount(INDEX).cumsum(0), (1, 0))
    results = [
        torch_scatter.scatter(src, INDEX, dim=0, reduce=reduce),
        torch_scatter.segment_coo(src, INDEX, reduce=reduce),
        torch_scatter.segment_csr(src, indptr, reduce=reduce),
        torch_scatter.scatter(src.t(), INDEX, dim=1, reduce=reduce).t(),
    ]
    grad = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, src, grad)
    for result in results:
        torch.testing.assert_close(result, expected)
        (got,) = torch.autograd.grad(result, src, grad)
        torch.testing.assert_close(got, wanted)


def test_scatter_extremes_say_where():
    src = torch.tensor([3, 1, 7, 7, 2, 4])
    least, at = torch_scatter.scatter_min(src, INDEX)
    assert least.tolist() == [1, 0, 2, 0, 0, 4]
    assert at.tolist() == [1, 6, 4, 6, 6, 5]
    most, at = torch_scatter.scatter_max(src, INDEX)
    assert most.tolist() == [3, 0, 7, 0, 0, 4]
    assert at.tolist() == [0, 6, 2, 6, 6, 5]
    indptr = torch.tensor([1, 3, 3, 6])
    most, at = torch_scatter.segment_max_csr(src, indptr)
    assert most.tolist() == [7, 0, 7]
    assert at.tolist() == [2, 6, 3]


def test_scatter_softmax_and_spread():
    src = torch.randn(6, 3) * 50
    soft = torch_scatter.scatter_softmax(src, INDEX, dim=0)
    log = torch_scatter.scatter_log_softmax(src, INDEX, dim=0)
    spread = torch_scatter.scatter_std(src, INDEX, dim=0)
    for group, inside in enumerate(members()):
        torch.testing.assert_close(soft[inside], src[inside].softmax(0))
        torch.testing.assert_close(log[inside], src[inside].log_softmax(0))
        if inside.sum() > 1:
            torch.testing.assert_close(spread[group], src[inside].std(0))


def test_gather_repeats_rows():
    src = torch.arange(3.0)
    assert torch_scatter.gather_csr(src, torch.tensor([0, 2, 2, 3])).tolist() == [
        0,
        0,
        2,
    ]
    assert torch_scatter.gather_coo(src, torch.tensor([2, 0])).tolist() == [2, 0]


# torch_cluster and torch_geometric


def test_neighbours_of_batches(clouds):
    coord, _ = clouds
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    row, column = torch_cluster.knn(coord, coord, 5, batch, batch)
    distance = torch.cdist(coord, coord)
    distance[batch[:, None] != batch] = torch.inf
    for query in range(len(coord)):
        near = min(5, COUNTS[batch[query]])
        expected = distance[query].argsort()[:near]
        assert torch.equal(column[row == query], expected)
    row, column = torch_cluster.radius(coord, coord, 0.3, batch, batch, 1000)
    inside = torch.zeros_like(distance, dtype=torch.bool)
    inside[row, column] = True
    assert torch.equal(inside, distance < 0.3)
    edges = torch_cluster.knn_graph(coord, 2, batch)
    assert (edges[0] != edges[1]).all()
    assert torch.equal(torch_cluster.nearest(coord, coord), torch.arange(len(coord)))


def test_fps_takes_a_share_of_every_cloud(clouds):
    coord, _ = clouds
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    index = torch_cluster.fps(coord, batch, ratio=0.5, random_start=False)
    assert torch.bincount(batch[index]).tolist() == [30, 2, 21]
    assert index[[0, 30, 32]].tolist() == [0, 60, 63]


def test_voxel_grid_separates_clouds_and_cells():
    pos = torch.tensor([[0.0, 0], [0.4, 0.2], [1.2, 0], [0, 1.1], [0, 0]])
    batch = torch.tensor([0, 0, 0, 0, 1])
    assert torch_geometric.voxel_grid(pos, 1.0, batch).tolist() == [0, 0, 1, 2, 4]
    assert torch_geometric.voxel_grid(pos, 1.0, batch, start=0).tolist() == [
        0,
        0,
        1,
        2,
        4,
    ]
    assert torch_geometric.scatter(pos, batch).tolist()[1] == [0, 0]


# timm and flash_attn


def test_drop_path_drops_rows_and_keeps_the_mean():
    layer = timm.DropPath(0.25)
    out = layer(torch.ones(4000, 2))
    kept = out[:, 0] > 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / 0.75))
    assert 0.2 < 1 - kept.float().mean() < 0.3
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean() == pytest.approx(1, abs=0.05)
    assert layer.eval()(torch.ones(3, 2)).eq(1).all()


@pytest.mark.parametrize("causal", [False, True])
def test_packed_attention_equals_one_sequence_at_a_time(causal):
    qkv = torch.randn(12, 3, 2, 4, requires_grad=True)
    ends = torch.tensor([0, 5, 5, 10, 12], dtype=torch.int)
    out = flash_attn.flash_attn_varlen_qkvpacked_func(
        qkv, ends, 5, softmax_scale=0.3, causal=causal
    )
    grad = torch.randn_like(out)
    (got,) = torch.autograd.grad(out, qkv, grad)
    parts = []
    for first, last in ((0, 5), (5, 10), (10, 12)):
        query, key, value = qkv[first:last].permute(1, 2, 0, 3)
        score = 0.3 * query @ key.transpose(1, 2)
        if causal:
            later = torch.ones(score.shape[1:]).triu(1).bool()
            score = score.masked_fill(later, -torch.inf)
        parts.append((score.softmax(-1) @ value).transpose(0, 1))
    expected = torch.cat(parts)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(got, torch.autograd.grad(expected, qkv, grad)[0])


# spconv


def rulebook(cells, size):
    """Return spconv's pairs of a submanifold convolution: (2, cells, N), counts."""
    place = {tuple(cell): i for i, cell in enumerate(cells.tolist())}
    steps = torch.cartesian_prod(*[torch.arange(size) - size // 2] * 3)
    pairs = torch.full((2, len(steps), len(cells)), -1, dtype=torch.int)
    count = torch.zeros(len(steps), dtype=torch.int)
    for k, step in enumerate(steps):
        if k == len(steps) // 2:
            continue
        found = [
            (place[tuple(near)], i)
            for i, near in enumerate((cells + step).tolist())
            if tuple(near) in place
        ]
        for column, pair in enumerate(found):
            pairs[:, k, column] = torch.tensor(pair)
        if k < len(steps) // 2:
            count[k] = len(found)
    return pairs, count


def test_submanifold_convolution_equals_the_dense_one():
    cells = torch.cartesian_prod(*[torch.arange(6)] * 3)
    cells = cells[torch.randperm(len(cells))[:70]]
    pairs, count = rulebook(cells, 3)
    features = torch.randn(70, 4, dtype=torch.float64, requires_grad=True)
    filters = torch.randn(5, 3, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64)
    x, y, z = cells.t()
    volume = features.new_zeros(6, 6, 6, 4).index_put((x, y, z), features)
    kernel = filters.permute(0, 4, 1, 2, 3)
    expected = F.conv3d(volume.permute(3, 0, 1, 2)[None], kernel, bias, padding=1)
    expected = expected[0, :, x, y, z].t()
    out = spconv_kernels.indice_conv(
        features.detach(), filters.detach(), pairs, count, 70, subm=True, bias=bias
    )
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (features, filters), grad)
    got = spconv_kernels.indice_conv_backward(
        features.detach(), filters.detach(), grad, pairs, count, subm=True
    )
    torch.testing.assert_close(got, wanted)


def test_convolution_under_autocast():
    """Features halved, filters not: computed in halves, gradients in their types."""
    cells = torch.cartesian_prod(*[torch.arange(3)] * 3)
    pairs, count = rulebook(cells, 3)
    features, filters = torch.randn(27, 4), torch.randn(5, 3, 3, 3, 4)
    half, bias = features.bfloat16(), torch.randn(5)
    out = spconv_kernels.indice_conv(
        half, filters, pairs, count, 27, subm=True, bias=bias
    )
    exact = spconv_kernels.indice_conv(
        features, filters, pairs, count, 27, subm=True, bias=bias
    )
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.3, rtol=0.05)
    back = spconv_kernels.indice_conv_backward(
        half, filters, torch.randn(27, 5), pairs, count, subm=True
    )
    assert [grad.dtype for grad in back] == [torch.bfloat16, torch.float32]


def test_strided_convolution_and_its_inverse():
    """Two inputs in one output cell, one in another; the inverse goes back."""
    pairs = torch.full((2, 8, 3), -1, dtype=torch.int)
    count = torch.zeros(8, dtype=torch.int)
    for cell, source, target in ((0, 0, 0), (7, 1, 0), (3, 2, 1)):
        pairs[:, cell, 0] = torch.tensor([source, target])
        count[cell] = 1
    features, filters = torch.randn(3, 4), torch.randn(5, 2, 2, 2, 4)
    weight = filters.flatten(1, 3)
    out = spconv_kernels.indice_conv(features, filters, pairs, count, 2)
    expected = torch.stack(
        [
            weight[:, 0] @ features[0] + weight[:, 7] @ features[1],
            weight[:, 3] @ features[2],
        ]
    )
    torch.testing.assert_close(out, expected)
    coarse = torch.randn(2, 4)
    back = spconv_kernels.indice_conv(coarse, filters, pairs, count, 3, inverse=True)
    rows = [
        weight[:, 0] @ coarse[0],
        weight[:, 7] @ coarse[0],
        weight[:, 3] @ coarse[1],
    ]
    torch.testing.assert_close(back, torch.stack(rows))


# what is put in place


def test_patches_are_undone():
    thing = types.SimpleNamespace(kept=1)
    patches.replace(thing, "kept", 2)
    patches.replace(thing, "new", 3)
    patches.replace(thing, "kept", 4)
    assert (thing.kept, thing.new) == (4, 3)
    patches.undo()
    assert vars(thing) == {"kept": 1}


def test_integers_are_counted_by_histc():
    values = torch.tensor([0, 3, 3, 19, 20, -1])
    count = legacy._histc_of_integers(torch.histc)(values, bins=20, min=0, max=19)
    assert count.dtype == torch.int64
    assert count.tolist() == [1, 0, 0, 2, *[0] * 15, 1]


def isolated(code, **variables):
    """Run code in a process of its own, where torch may be changed."""
    environment = {k: v for k, v in os.environ.items() if k != "POINTCEPT_ROOT"}
    environment |= {"PYTHONPATH": str(ROOT), "POINTINS_HOST": "standalone", **variables}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_installed_and_taken_back():
    isolated(
        """
        import sys, numpy as np, torch
        from pointins_plugin.host import pointcept_cpu
        before = list(sys.meta_path), torch.histc, torch.zeros
        assert pointcept_cpu.install() and pointcept_cpu.install()
        x = torch.ones(3)
        assert x.cuda(non_blocking=True) is x
        assert torch.nn.Linear(2, 2).cuda().weight.device.type == "cpu"
        assert torch.cuda.IntTensor(4).dtype == torch.int32
        assert torch.zeros(2, device="cuda").device.type == "cpu"
        with torch.device("meta"):
            assert torch.zeros(2).is_meta
        assert np.in1d([[1, 2]], [2]).tolist() == [False, True]
        norm = torch.nn.BatchNorm1d(3)
        assert torch.nn.SyncBatchNorm.convert_sync_batchnorm(norm) is norm
        import flash_attn, pointgroup_ops, torch_scatter
        from timm.layers import DropPath, trunc_normal_
        from torch_geometric.nn.pool import voxel_grid
        import open3d.geometry
        try:
            open3d.geometry.PointCloud()
        except ImportError as error:
            assert str(error).startswith("open3d.geometry.PointCloud is not installed")
        else:
            raise AssertionError
        pointcept_cpu.uninstall()
        assert (list(sys.meta_path), torch.histc, torch.zeros) == before
        assert "flash_attn" not in sys.modules and "open3d" not in sys.modules
        assert "method" in repr(torch.Tensor.cuda)
        """
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_installed_packages_are_not_replaced(tmp_path):
    names = {name.partition(".")[0] for name in (*finder.OPTIONAL, *finder.UNNEEDED)}
    for name in names:
        (tmp_path / f"{name}.py").write_text("real = True\n")
    (tmp_path / "pointgroup_ops.py").write_text("raise RuntimeError('CUDA only')\n")
    isolated(
        f"""
        import importlib, sys
        sys.path.insert(0, {str(tmp_path)!r})
        from pointins_plugin.host import pointcept_cpu
        pointcept_cpu.install()
        for name in {sorted(names)}:
            assert importlib.import_module(name).real, name
        import pointgroup_ops
        assert callable(pointgroup_ops.bfs_cluster)
        """
    )


def test_nothing_is_done_where_there_is_cuda():
    isolated(
        """
        import sys, numpy as np, torch
        from pointins_plugin.host import pointcept_cpu
        torch.cuda.is_available = lambda: True
        before = list(sys.meta_path), torch.histc, torch.zeros, vars(np).copy()
        assert not pointcept_cpu.install()
        assert (list(sys.meta_path), torch.histc, torch.zeros, vars(np)) == before
        """
    )


def test_it_stands_alone(tmp_path):
    """The folder, copied elsewhere, runs a script that spawns processes."""
    source = ROOT / "pointins_plugin" / "host" / "pointcept_cpu"
    (tmp_path / "pointcept_cpu").symlink_to(source)
    engines = tmp_path / "pointcept" / "engines"
    engines.mkdir(parents=True)
    (tmp_path / "pointcept" / "__init__.py").touch()
    (engines / "__init__.py").touch()
    (engines / "launch.py").write_text("import pointops  # fails where unprepared\n")
    functions = tmp_path / "libs" / "pointops" / "functions"
    functions.mkdir(parents=True)
    (functions / "__init__.py").write_text("from pointops._C import knn_query_cuda\n")
    (tmp_path / "main.py").write_text(
        textwrap.dedent(
            """
            import sys
            import torch.multiprocessing as mp
            import pointcept.engines.launch
            def work(rank, word):
                print(rank, word, __name__, flush=True)
            if __name__ == "__main__":
                mp.spawn(work, nprocs=1, args=(sys.argv[1],))
            """
        )
    )
    environment = {k: v for k, v in os.environ.items() if k != "POINTCEPT_ROOT"}
    done = subprocess.run(
        [sys.executable, "-m", "pointcept_cpu", "main.py", "hello"],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "hello", "__mp_main__"]


def test_a_script_that_is_not_there():
    done = subprocess.run(
        [sys.executable, "-m", "pointins_plugin.host.pointcept_cpu", "nowhere.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "POINTINS_HOST": "standalone"},
        check=False,
    )
    assert done.returncode == 2
    assert "there is no script nowhere.py" in done.stderr
