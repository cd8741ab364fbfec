"""Sparse convolution on CPU in place of spconv 2.3.8's kernels.

Those race with more than one thread (other results from run to run), ask for a CUDA
stream in backward and refuse a bias outside of training. Neighbour pairs still come
from spconv.
"""

import functools

import torch

from .patches import replace


def install() -> None:
    """Replace the convolutions of ``spconv.pytorch.ops`` for tensors on CPU."""
    try:
        from spconv.pytorch import cppcore, functional, ops
    except ImportError:
        return  # the import of Pointcept says so, and doctor how to get it
    for module in (cppcore, functional, ops):
        if hasattr(module, "get_current_stream"):
            replace(module, "get_current_stream", _stream)
    for ours in (indice_conv, indice_conv_backward):
        theirs = getattr(ops, ours.__name__)
        replace(ops, ours.__name__, _on_cpu(theirs, ours))


def _stream() -> int:
    return 0


def _on_cpu(theirs, ours):
    @functools.wraps(theirs)
    def choose(features, *args, **kwargs):
        return (theirs if features.is_cuda else ours)(features, *args, **kwargs)

    return choose


def _kernel_cells(indice_pairs, indice_pair_num, cells, inverse, subm):
    """Yield (cell, sources, targets) of the kernel cells that connect any points.

    A submanifold convolution counts the pairs of the first half of its cells only: the
    second half mirrors it, and the centre connects every point with itself.
    """
    counts = indice_pair_num.tolist()
    for cell in range(cells):
        if subm and cell == cells // 2:
            continue
        mirrored = subm and cell > cells // 2
        count = counts[cells - 1 - cell] if mirrored else counts[cell]
        if count > 0:
            pairs = indice_pairs[:, cell, :count].long()
            yield cell, pairs[int(inverse)], pairs[int(not inverse)]


def indice_conv(
    features,
    filters,
    indice_pairs,
    indice_pair_num,
    num_activate_out,
    inverse=False,
    subm=False,
    algo=None,
    timer=None,
    bias=None,
    act_alpha=0.0,
    act_beta=0.0,
    act_type=None,
):
    """Convolve: sum the kernel cells' products at their targets.

    Args:
        features: (N, C_in). filters: (C_out, *kernel, C_in).
        indice_pairs: (2, cells, N) inputs and outputs of every kernel cell's pairs.
        indice_pair_num: (cells,) how many of them there are.
        num_activate_out: M, points of the output.
        inverse: read the pairs from outputs to inputs.
        subm: the outputs are the inputs.
        bias: (C_out,) or None. Others: of spconv, without effect.

    Returns:
        (M, C_out), of the features' type, as under autocast they may be halved.
    """
    weight = filters.flatten(1, -2).to(features.dtype)  # (C_out, cells, C_in)
    cells = weight.shape[1]
    if subm:
        out = features @ weight[:, cells // 2].t()
    else:
        out = features.new_zeros(num_activate_out, len(weight))
    for cell, source, target in _kernel_cells(
        indice_pairs, indice_pair_num, cells, inverse, subm
    ):
        rows = features.index_select(0, source)
        out.index_add_(0, target, rows @ weight[:, cell].t())
    return out if bias is None else out.add_(bias)


def indice_conv_backward(
    features,
    filters,
    out_bp,
    indice_pairs,
    indice_pair_num,
    inverse=False,
    subm=False,
    algo=None,
    timer=None,
):
    """Return the gradients of ``indice_conv`` for features and filters."""
    weight = filters.flatten(1, -2).to(features.dtype)
    out_bp = out_bp.to(features.dtype)
    cells = weight.shape[1]
    grad_weight = torch.zeros_like(weight)
    if subm:
        grad_weight[:, cells // 2] = out_bp.t() @ features
        grad_features = out_bp @ weight[:, cells // 2]
    else:
        grad_features = torch.zeros_like(features)
    for cell, source, target in _kernel_cells(
        indice_pairs, indice_pair_num, cells, inverse, subm
    ):
        grad_rows = out_bp.index_select(0, target)
        grad_weight[:, cell] = grad_rows.t() @ features.index_select(0, source)
        grad_features.index_add_(0, source, grad_rows @ weight[:, cell])
    return grad_features, grad_weight.view_as(filters).to(filters.dtype)
