"""Sinkhorn-Knopp scaling with arbitrary column masses, for prototype assignment."""

import torch
import torch.distributed as dist
from torch import Tensor

from pointins_plugin.ops.device import on_gpu

# exp(-60) is far from float32's smallest normal number (about exp(-87)), so that
# products of the kernel with the scaling vectors cannot underflow.
_SAFE_LOG_RANGE = 60.0
# Elements that the log domain works on at once: they stay in a core's cache.
_CHUNK = 1 << 17
_CUDA_CHUNK = 1 << 26


def zipf_weights(
    num_prototypes: int, alpha: float, device: torch.device | None = None
) -> Tensor:
    """Return the Zipf masses ``w_k ~ k^-alpha`` of K prototypes, summing to one.

    Source: DOS (arXiv 2512.11465), the prior on prototype usage; ``alpha = 0`` is
    the uniform distribution of plain Sinkhorn.
    """
    rank = torch.arange(1, num_prototypes + 1, dtype=torch.float32, device=device)
    return torch.softmax(-alpha * torch.log(rank), dim=0)


@torch.no_grad()
def sinkhorn(
    logits: Tensor,
    column_mass: Tensor | None = None,
    num_iters: int = 3,
    first: str = "rows",
    log_range: float | None = None,
    distributed: bool = False,
) -> Tensor:
    """Scale ``exp(logits)`` to equal row masses and given column masses.

    Args:
        logits: (N, K) similarities over temperature; rows are points, columns are
            prototypes. Computed in float32 whatever the input.
        column_mass: (K,) masses that sum to one; uniform when None.
        num_iters: rounds; a round normalises rows and columns once each.
        first: ``"rows"`` ends a round on the columns (DOS), ``"columns"`` ends it on
            the rows (Sonata, SwAV).
        log_range: a bound on ``logits.max() - logits.min()`` known to the caller
            (2 / temperature for cosines). Up to 60 the matrix is exponentiated once
            and scaled by matrix-vector products; beyond it every round works in the
            log domain. Both give the same plan. None: found out on CPU; on a GPU, which
            would have to wait for the answer, the log domain.
        distributed: the rows of all ranks form one problem: column sums and the
            number of rows are summed over ranks.

    Returns:
        (N, K) float32 plan whose total mass over all rows (and ranks) is one. Besides
        it nothing of its size is held, but the logits in float32 where they were not.

    Source: DOS, Zipf-Sinkhorn; Sonata's ``sinkhorn_knopp`` is ``first="columns"``
    times the number of rows.
    """
    if first not in ("rows", "columns"):
        raise ValueError(f"first must be 'rows' or 'columns', found {first!r}")
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        num_rows, num_columns = logits.shape
        total = logits.new_full((), num_rows)
        distributed = (
            distributed and dist.is_initialized() and dist.get_world_size() > 1
        )
        if distributed:
            dist.all_reduce(total)
        if column_mass is None:
            column_mass = logits.new_full((num_columns,), 1.0 / num_columns)
        column_mass = column_mass.to(logits)
        if num_rows == 0 and not distributed:
            return logits
        if log_range is None and not on_gpu(logits):
            log_range = _range(logits, distributed)
        scale = _scale_kernel
        if log_range is None or log_range > _SAFE_LOG_RANGE:
            scale = _scale_log
        return scale(logits, column_mass, total, num_iters, first, distributed)


def _range(logits: Tensor, distributed: bool) -> float:
    """Return the largest difference of two logits, over all ranks."""
    ends = logits.new_full((2,), -torch.inf)
    if len(logits):
        low, high = logits.aminmax()
        ends = torch.stack([high, -low])
    if distributed:
        dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    return float(ends.sum())


def _scale_kernel(logits, column_mass, total, num_iters, first, distributed):
    # A shift by the row maximum is absorbed by the row scaling, so the plan is the
    # same; it keeps every row's largest entry at one.
    if first == "columns":
        # The first column pass sees the unscaled matrix, so that only one common
        # shift is allowed; it must be the same on every rank.
        shift = logits.amax() if len(logits) else logits.new_full((), -torch.inf)
        if distributed:
            dist.all_reduce(shift, op=dist.ReduceOp.MAX)
    else:
        shift = logits.amax(dim=1, keepdim=True) if len(logits) else 0.0
    kernel = (logits - shift).exp_()
    row = torch.ones_like(kernel[:, 0])
    column = torch.ones_like(column_mass)

    def normalise_rows():
        return 1.0 / (kernel @ column) / total

    def normalise_columns():
        sums = kernel.t() @ row
        if distributed:
            dist.all_reduce(sums)
        return column_mass / sums

    for _ in range(num_iters):
        if first == "rows":
            row = normalise_rows()
            column = normalise_columns()
        else:
            column = normalise_columns()
            row = normalise_rows()
    return kernel.mul_(row[:, None]).mul_(column)


def _scale_log(logits, column_mass, total, num_iters, first, distributed):
    log_mass = torch.log(column_mass)
    log_total = torch.log(total)
    row = torch.zeros_like(logits[:, 0])
    column = torch.zeros_like(column_mass)
    limit = _CUDA_CHUNK if on_gpu(logits) else _CHUNK
    size = max(1, limit // max(1, logits.shape[1]))
    chunks = logits.split(size)

    def normalise_rows():
        sums = [torch.logsumexp(chunk + column, dim=1) for chunk in chunks]
        return -torch.cat(sums) - log_total

    def normalise_columns():
        # Sums are kept relative to the largest score so far; -inf and zero are the
        # right neutral elements for ranks that have no point.
        peak = torch.full_like(column, -torch.inf)
        sums = torch.zeros_like(column)
        for chunk, part in zip(chunks, row.split(size), strict=True):
            if not len(chunk):
                continue
            scores = chunk + part[:, None]
            before, peak = peak, torch.maximum(peak, scores.amax(dim=0))
            sums = sums * (before - peak).exp_()
            sums += (scores - peak).exp_().sum(dim=0)
        if distributed:
            before = peak.clone()
            dist.all_reduce(peak, op=dist.ReduceOp.MAX)
            sums *= torch.exp(before - peak)
            dist.all_reduce(sums)
        return log_mass - peak - torch.log(sums)

    for _ in range(num_iters):
        if first == "rows":
            row = normalise_rows()
            column = normalise_columns()
        else:
            column = normalise_columns()
            row = normalise_rows()
    return (logits + row[:, None]).add_(column).exp_()
