"""Rows of all ranks, for statistics over the whole batch."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(values: Tensor) -> tuple[Tensor, slice]:
    """Join the rows of all ranks; every rank must call it, with any number of rows.

    Gradients reach a rank's own rows, multiplied by the number of ranks: averaged over
    ranks, as DistributedDataParallel does, those of a loss that every rank computes on
    the joined rows are the gradients of that loss.

    Args:
        values: (N, ...) rows of this rank.

    Returns:
        (M, ...) the rows of rank 0, 1, ..., and which of them are this rank's. On one
        process ``values`` itself.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return values, slice(0, len(values))
    world = dist.get_world_size()
    size = values.new_full((1,), len(values), dtype=torch.long)
    sizes = [torch.zeros_like(size) for _ in range(world)]
    dist.all_gather(sizes, size)
    counts = torch.cat(sizes).tolist()
    padded = values.new_zeros(max(counts), *values.shape[1:])
    padded[: len(values)] = values.detach()
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded)
    rank = dist.get_rank()
    rows = [part[:count] for part, count in zip(parts, counts, strict=True)]
    if values.requires_grad:
        # The values themselves, to the last bit in half precision too.
        rows[rank] = values + (values - values.detach()) * (world - 1)
    start = sum(counts[:rank])
    return torch.cat(rows), slice(start, start + len(values))


def first_generator(
    generator: torch.Generator | None, device: torch.device
) -> torch.Generator | None:
    """Return a generator that draws on every rank what rank 0's draws.

    Rank 0 gets its own, which moves on as on one process; the others get a copy.
    Without several ranks it is the argument itself.

    Args:
        generator: CPU generator; None is the default one.
        device: where collectives work.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return generator
    state = (torch.get_rng_state() if generator is None else generator.get_state()).to(
        device
    )
    dist.broadcast(state, 0)
    if dist.get_rank() == 0:
        return generator
    shared = torch.Generator()
    shared.set_state(state.cpu())
    return shared
