"""The kernels of Pointcept's pointops: every function fills its last arguments.

Clouds are given by cumulative counts. Where there is no neighbour the index is -1 and
the squared distance 1e10.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree

from .torch_cluster import farthest_points

_FAR = 1e10
# Squared distance of what counts as the same point in the ball queries.
_SAME = 1e-5

__all__ = [
    "aggregation_backward_cuda",
    "aggregation_forward_cuda",
    "attention_fusion_step_backward_cuda",
    "attention_fusion_step_forward_cuda",
    "attention_relation_step_backward_cuda",
    "attention_relation_step_forward_cuda",
    "ball_query_cuda",
    "farthest_point_sampling_cuda",
    "grouping_backward_cuda",
    "grouping_forward_cuda",
    "interpolation_backward_cuda",
    "interpolation_forward_cuda",
    "knn_query_cuda",
    "random_ball_query_cuda",
    "subtraction_backward_cuda",
    "subtraction_forward_cuda",
]


def _clouds(*offsets):
    """Yield one slice an argument for every cloud."""
    ends = [offset.tolist() for offset in offsets]
    starts = [[0, *part[:-1]] for part in ends]
    for bounds in zip(*starts, *ends, strict=True):
        half = len(offsets)
        yield [slice(*pair) for pair in zip(bounds[:half], bounds[half:], strict=True)]


def _squares(xyz, new_xyz, index):
    """Return squared distances (M, K) in the kernels' precision."""
    return (new_xyz[:, None] - xyz[index]).square().sum(-1)


def knn_query_cuda(m, nsample, xyz, new_xyz, offset, new_offset, idx, dist2):
    """Find the nearest ``nsample`` points of the same cloud, nearest first."""
    idx.fill_(-1)
    dist2.fill_(_FAR)
    for points, queries in _clouds(offset, new_offset):
        cloud, asked = xyz[points], new_xyz[queries]
        near = min(nsample, len(cloud))
        if near == 0 or len(asked) == 0:
            continue
        tree = cKDTree(cloud.double().numpy())
        _, index = tree.query(asked.double().numpy(), k=[*range(1, near + 1)])
        index = torch.from_numpy(index)
        square = _squares(cloud, asked, index)
        found = square < _FAR
        idx[queries, :near] = torch.where(found, index + points.start, -1).to(idx)
        dist2[queries, :near] = torch.where(found, square, _FAR).to(dist2)


def _candidates(cloud, asked, low, high):
    """Return (query, point, squared distance) of points in a shell, and of same ones.

    Sorted by query.
    """
    reach = max(high, _SAME**0.5) * (1 + 1e-5)
    trees = [cKDTree(part.double().numpy()) for part in (asked, cloud)]
    pairs = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    query, point = (torch.from_numpy(pairs[key].astype(np.int64)) for key in ("i", "j"))
    square = (asked[query] - cloud[point]).square().sum(-1)
    inside = (square <= _SAME) | ((square >= low * low) & (square < high * high))
    query, point, square = query[inside], point[inside], square[inside]
    order = torch.argsort(query, stable=True)
    return query[order], point[order], square[order]


def _sorted_by(key, query, *columns):
    order = torch.argsort(key, stable=True)
    order = order[torch.argsort(query[order], stable=True)]
    return [column[order] for column in (query, *columns)]


def ball_query_cuda(
    m,
    nsample,
    min_radius,
    max_radius,
    xyz,
    new_xyz,
    offset,
    new_offset,
    idx,
    dist2,
):
    """Find points between two radii, and those at the query itself, nearest first.

    Of more than ``nsample`` every so manieth is kept. The original leaves its
    candidates half sorted and then writes their indices as distances; here they are
    sorted, and distances are distances.
    """
    idx.fill_(-1)
    dist2.fill_(_FAR)
    for points, queries in _clouds(offset, new_offset):
        asked = new_xyz[queries]
        if points.start == points.stop or len(asked) == 0:
            continue
        query, point, square = _candidates(xyz[points], asked, min_radius, max_radius)
        query, point, square = _sorted_by(square, query, point, square)
        count = torch.bincount(query, minlength=len(asked))
        first = count.cumsum(0) - count
        step = (count.float() / nsample).clamp(min=1)
        slot = torch.arange(nsample)
        taken = (step[:, None] * slot).long()
        valid = taken < count[:, None]
        place = (first[:, None] + taken)[valid]
        _fill(idx[queries], valid, point[place] + points.start)
        _fill(dist2[queries], valid, square[place])


def _fill(target, where, values):
    target[where] = values.to(target)


def random_ball_query_cuda(
    m,
    nsample,
    min_radius,
    max_radius,
    order,
    xyz,
    new_xyz,
    offset,
    new_offset,
    idx,
    dist2,
):
    """Find the first ``nsample`` points in a random order within a shell."""
    idx.fill_(-1)
    dist2.fill_(_FAR)
    for points, queries in _clouds(offset, new_offset):
        asked, turn = new_xyz[queries], order[points].long()
        if len(turn) == 0 or len(asked) == 0:
            continue
        query, point, square = _candidates(xyz[turn], asked, min_radius, max_radius)
        query, point, square = _sorted_by(point, query, point, square)
        count = torch.bincount(query, minlength=len(asked))
        rank = torch.arange(len(query)) - (count.cumsum(0) - count)[query]
        kept = rank < nsample
        row, column = query[kept] + queries.start, rank[kept]
        idx[row, column] = turn[point[kept]].to(idx)
        dist2[row, column] = square[kept].to(dist2)


def farthest_point_sampling_cuda(b, n_max, xyz, offset, new_offset, tmp, idx):
    """Choose points, each the farthest from those before it."""
    for points, chosen in _clouds(offset, new_offset):
        number = chosen.stop - chosen.start
        if number > 0:
            index = farthest_points(xyz[points].numpy(), number) + points.start
            idx[chosen] = torch.from_numpy(index).to(idx)


def _flat(idx):
    return idx.reshape(-1).long().clamp(min=0)


def _rows(values, idx):
    """Return rows (M, K, C) of values (N, C); zeros where the index is -1."""
    rows = values.index_select(0, _flat(idx)).view(*idx.shape, -1)
    return rows * (idx >= 0).unsqueeze(-1)


def _add_rows(target, idx, rows):
    rows = rows * (idx >= 0).unsqueeze(-1)
    target.index_add_(0, _flat(idx), rows.reshape(-1, target.shape[-1]))


def grouping_forward_cuda(m, nsample, c, input, idx, output):
    """Return the features of neighbours (m, nsample, c)."""
    output.copy_(_rows(input, idx))


def grouping_backward_cuda(m, nsample, c, grad_output, idx, grad_input):
    """Return the gradient of ``grouping_forward_cuda``."""
    _add_rows(grad_input, idx, grad_output)


def interpolation_forward_cuda(n, c, k, input, idx, weight, output):
    """Sum the weighted features of neighbours (n, c)."""
    output.add_((_rows(input, idx) * weight.unsqueeze(-1)).sum(1))


def interpolation_backward_cuda(n, c, k, grad_output, idx, weight, grad_input):
    """Return the gradient of ``interpolation_forward_cuda``."""
    _add_rows(grad_input, idx, grad_output.unsqueeze(1) * weight.unsqueeze(-1))


def subtraction_forward_cuda(n, nsample, c, input1, input2, idx, output):
    """Subtract the features of neighbours from a point's own (n, nsample, c)."""
    output.copy_(input1.unsqueeze(1) - _rows(input2, idx))


def subtraction_backward_cuda(
    n, nsample, c, idx, grad_output, grad_input1, grad_input2
):
    """Return the gradients of ``subtraction_forward_cuda``."""
    grad_input1.add_(grad_output.sum(1))
    _add_rows(grad_input2, idx, -grad_output)


def _repeated(weight, c):
    """Repeat (n, nsample, groups) along the channels: channel i is of group i mod."""
    return weight.repeat(1, 1, -(-c // weight.shape[-1]))[..., :c]


def aggregation_forward_cuda(n, nsample, c, w_c, input, position, weight, idx, output):
    """Sum weighted features and positions of neighbours (n, c)."""
    output.add_(((_rows(input, idx) + position) * _repeated(weight, c)).sum(1))


def aggregation_backward_cuda(
    n,
    nsample,
    c,
    w_c,
    input,
    position,
    weight,
    idx,
    grad_output,
    grad_input,
    grad_position,
    grad_weight,
):
    """Return the gradients of ``aggregation_forward_cuda``."""
    grad_sum = grad_output.unsqueeze(1) * _repeated(weight, c)
    _add_rows(grad_input, idx, grad_sum)
    grad_position.copy_(grad_sum)
    product = grad_output.unsqueeze(1) * (_rows(input, idx) + position)
    group = torch.arange(c, device=product.device) % w_c
    grad_weight.index_add_(2, group, product)


def attention_relation_step_forward_cuda(
    m, g, c, query, key, weight, index_target, index_refer, output
):
    """Return weighted products of queries and keys (m, g)."""
    product = query[index_target.long()] * key[index_refer.long()]
    output.add_((product * weight).sum(-1))


def attention_relation_step_backward_cuda(
    m,
    g,
    c,
    query,
    grad_query,
    key,
    grad_key,
    weight,
    grad_weight,
    index_target,
    index_refer,
    grad_output,
):
    """Return the gradients of ``attention_relation_step_forward_cuda``."""
    target, refer = index_target.long(), index_refer.long()
    grad = grad_output.unsqueeze(-1)
    grad_query.index_add_(0, target, grad * key[refer] * weight)
    grad_key.index_add_(0, refer, grad * query[target] * weight)
    grad_weight.add_((grad * key[refer] * query[target]).sum((0, 1)))


def attention_fusion_step_forward_cuda(
    m, g, c, weight, value, index_target, index_refer, output
):
    """Sum weighted values at their targets (n, g, c)."""
    moved = weight.unsqueeze(-1) * value[index_refer.long()]
    output.index_add_(0, index_target.long(), moved)


def attention_fusion_step_backward_cuda(
    m,
    g,
    c,
    weight,
    grad_weight,
    value,
    grad_value,
    index_target,
    index_refer,
    grad_output,
):
    """Return the gradients of ``attention_fusion_step_forward_cuda``."""
    grad = grad_output[index_target.long()]
    refer = index_refer.long()
    grad_weight.add_((grad * value[refer]).sum(-1))
    grad_value.index_add_(0, refer, grad * weight.unsqueeze(-1))
