"""torch_scatter by PyTorch's own reductions.

Groups without members hold zero, as the original's do; gradients are PyTorch's, which
for minimum and maximum go to the members that are them.
"""

import torch

__all__ = [
    "gather_coo",
    "gather_csr",
    "scatter",
    "scatter_add",
    "scatter_log_softmax",
    "scatter_logsumexp",
    "scatter_max",
    "scatter_mean",
    "scatter_min",
    "scatter_mul",
    "scatter_softmax",
    "scatter_std",
    "scatter_sum",
    "segment_add_coo",
    "segment_add_csr",
    "segment_coo",
    "segment_csr",
    "segment_max_coo",
    "segment_max_csr",
    "segment_mean_coo",
    "segment_mean_csr",
    "segment_min_coo",
    "segment_min_csr",
    "segment_sum_coo",
    "segment_sum_csr",
]


def _expand(index, src, dim):
    """Give an index of one axis (or of the leading ones) the shape of the values."""
    dim = dim % src.dim()
    if index.dim() == 1:
        index = index.view((1,) * dim + (-1,))
    while index.dim() < src.dim():
        index = index.unsqueeze(-1)
    return index.expand_as(src), dim


def _groups(index, dim_size):
    if dim_size is not None:
        return int(dim_size)
    return int(index.max()) + 1 if index.numel() else 0


def _shape(src, dim, size):
    return (*src.shape[:dim], size, *src.shape[dim + 1 :])


def scatter_sum(src, index, dim=-1, out=None, dim_size=None):
    """Sum the values of a group."""
    index, dim = _expand(index, src, dim)
    if out is None:
        out = src.new_zeros(_shape(src, dim, _groups(index, dim_size)))
    return out.scatter_add_(dim, index, src)


scatter_add = scatter_sum


def scatter_mul(src, index, dim=-1, out=None, dim_size=None):
    """Multiply the values of a group; one where there is none."""
    index, dim = _expand(index, src, dim)
    if out is None:
        out = src.new_ones(_shape(src, dim, _groups(index, dim_size)))
    return out.scatter_reduce(dim, index, src, "prod")


def scatter_mean(src, index, dim=-1, out=None, dim_size=None):
    """Average the values of a group; whole numbers are rounded down."""
    total = scatter_sum(src, index, dim, out, dim_size)
    index, dim = _expand(index, src, dim)
    count = scatter_sum(torch.ones_like(src), index, dim, None, total.shape[dim])
    count.clamp_(min=1)
    if total.is_floating_point():
        return total / count
    return torch.div(total, count, rounding_mode="floor")


def scatter_std(src, index, dim=-1, out=None, dim_size=None, unbiased=True):
    """Return the standard deviation of a group's values."""
    mean = scatter_mean(src, index, dim, None, dim_size)
    index, dim = _expand(index, src, dim)
    squares = (src - mean.gather(dim, index)).square()
    count = scatter_sum(torch.ones_like(src), index, dim, None, mean.shape[dim])
    count = count.sub(1 if unbiased else 0).clamp(min=1)
    result = (scatter_sum(squares, index, dim, None, mean.shape[dim]) / count).sqrt()
    return result if out is None else out.copy_(result)


def _extreme(src, index, dim, out, dim_size, kind):
    index, dim = _expand(index, src, dim)
    size = out.shape[dim] if out is not None else _groups(index, dim_size)
    shape = _shape(src, dim, size)
    start = src.new_zeros(shape) if out is None else out
    value = start.scatter_reduce(dim, index, src, kind, include_self=out is not None)
    # Of several members equal to the result the first; past the end for none.
    with torch.no_grad():
        number = src.shape[dim]
        place = torch.arange(number, device=src.device)
        place = place.view((-1,) + (1,) * (src.dim() - dim - 1)).expand_as(src)
        chosen = src == value.gather(dim, index)
        place = place.masked_fill(~chosen, number)
        arg = index.new_full(shape, number).scatter_reduce(dim, index, place, "amin")
    if src.requires_grad:
        value = _gathered(src, value, arg, dim)
    if out is not None:
        out.copy_(value)
        value = out
    return value, arg


def _gathered(src, value, arg, dim):
    """Return the same values, with the gradient of the one member chosen."""
    found = arg < src.shape[dim]
    taken = src.gather(dim, arg.clamp(max=max(src.shape[dim] - 1, 0)))
    return torch.where(found, taken, value.detach())


def scatter_min(src, index, dim=-1, out=None, dim_size=None):
    """Return the least value of a group and its place (past the end for none)."""
    return _extreme(src, index, dim, out, dim_size, "amin")


def scatter_max(src, index, dim=-1, out=None, dim_size=None):
    """Return the largest value of a group and its place (past the end for none)."""
    return _extreme(src, index, dim, out, dim_size, "amax")


def scatter(src, index, dim=-1, out=None, dim_size=None, reduce="sum"):
    """Reduce the values of a group: ``sum``, ``mul``, ``mean``, ``min`` or ``max``."""
    if reduce in ("min", "max"):
        kind = "amin" if reduce == "min" else "amax"
        return _extreme(src, index, dim, out, dim_size, kind)[0]
    reductions = {
        "sum": scatter_sum,
        "add": scatter_sum,
        "mul": scatter_mul,
        "mean": scatter_mean,
    }
    return reductions[reduce](src, index, dim, out, dim_size)


def scatter_logsumexp(src, index, dim=-1, out=None, dim_size=None, eps=1e-12):
    """Return the logarithm of the sum of a group's exponentials."""
    index, dim = _expand(index, src, dim)
    size = _groups(index, dim_size) if out is None else out.shape[dim]
    top = src.new_full(_shape(src, dim, size), -torch.inf)
    top = top.scatter_reduce(dim, index, src.detach(), "amax")
    top = top.masked_fill(top == -torch.inf, 0)
    shifted = (src - top.gather(dim, index)).exp()
    result = (scatter_sum(shifted, index, dim, None, size) + eps).log() + top
    return result if out is None else out.copy_(result)


def scatter_softmax(src, index, dim=-1, dim_size=None):
    """Divide a value's exponential by the sum of those of its group."""
    return scatter_log_softmax(src, index, dim, 0.0, dim_size).exp()


def scatter_log_softmax(src, index, dim=-1, eps=1e-12, dim_size=None):
    """Return the logarithm of ``scatter_softmax``."""
    index, dim = _expand(index, src, dim)
    total = scatter_logsumexp(src, index, dim, None, dim_size, eps)
    return src - total.gather(dim, index)


def _index_of_rows(indptr):
    """Turn the bounds of consecutive segments into a group for every row."""
    count = indptr.diff()
    group = torch.arange(count.shape[-1], device=indptr.device)
    return group.repeat_interleave(count)


def _rows(src, indptr):
    """Check the bounds of segments along one axis and return that axis."""
    if any(size != 1 for size in indptr.shape[:-1]) and not bool(
        (indptr == indptr.reshape(-1, indptr.shape[-1])[0]).all()
    ):
        raise NotImplementedError("segments that differ from batch to batch")
    return indptr.dim() - 1, indptr.reshape(-1, indptr.shape[-1])[0]


def _segments(src, indptr):
    dim, bounds = _rows(src, indptr)
    first, last = int(bounds[0]), int(bounds[-1])
    return dim, src.narrow(dim, first, last - first), _index_of_rows(bounds), first


def segment_csr(src, indptr, out=None, reduce="sum"):
    """Reduce consecutive rows; segment i is from ``indptr[i]`` to ``indptr[i + 1]``."""
    dim, part, index, _ = _segments(src, indptr)
    size = indptr.shape[-1] - 1
    result = scatter(part, index, dim, None, size, reduce)
    return result if out is None else out.copy_(result)


def _extreme_csr(src, indptr, out, kind):
    dim, part, index, first = _segments(src, indptr)
    value, arg = _extreme(part, index, dim, None, indptr.shape[-1] - 1, kind)
    arg = torch.where(arg < part.shape[dim], arg + first, src.shape[dim])
    return (value if out is None else out.copy_(value)), arg


def segment_sum_csr(src, indptr, out=None):
    """Sum consecutive rows."""
    return segment_csr(src, indptr, out, "sum")


segment_add_csr = segment_sum_csr


def segment_mean_csr(src, indptr, out=None):
    """Average consecutive rows."""
    return segment_csr(src, indptr, out, "mean")


def segment_min_csr(src, indptr, out=None):
    """Return the least of consecutive rows, and where it is."""
    return _extreme_csr(src, indptr, out, "amin")


def segment_max_csr(src, indptr, out=None):
    """Return the largest of consecutive rows, and where it is."""
    return _extreme_csr(src, indptr, out, "amax")


def segment_coo(src, index, out=None, dim_size=None, reduce="sum"):
    """Reduce rows of equal, ascending ``index``."""
    return scatter(src, index, index.dim() - 1, out, dim_size, reduce)


def segment_sum_coo(src, index, out=None, dim_size=None):
    """Sum rows of equal index."""
    return segment_coo(src, index, out, dim_size, "sum")


segment_add_coo = segment_sum_coo


def segment_mean_coo(src, index, out=None, dim_size=None):
    """Average rows of equal index."""
    return segment_coo(src, index, out, dim_size, "mean")


def segment_min_coo(src, index, out=None, dim_size=None):
    """Return the least of rows of equal index, and where it is."""
    return _extreme(src, index, index.dim() - 1, out, dim_size, "amin")


def segment_max_coo(src, index, out=None, dim_size=None):
    """Return the largest of rows of equal index, and where it is."""
    return _extreme(src, index, index.dim() - 1, out, dim_size, "amax")


def gather_csr(src, indptr, out=None):
    """Repeat every group's row for its members."""
    dim, bounds = _rows(src, indptr)
    result = src.index_select(dim, _index_of_rows(bounds))
    return result if out is None else out.copy_(result)


def gather_coo(src, index, out=None):
    """Return every member's group's row, for an index of one axis."""
    if index.dim() != 1:
        raise NotImplementedError("an index of several axes")
    result = src.index_select(0, index)
    return result if out is None else out.copy_(result)
