"""Who else trains: rank, world size and the few exchanges between ranks."""

import os
from typing import Any

import torch
import torch.distributed as dist


def get_world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if _active() else 1


def get_rank() -> int:
    """Return the index of this process among all."""
    return dist.get_rank() if _active() else 0


def get_local_rank() -> int:
    """Return the index of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) if _active() else 0


def is_main_process() -> bool:
    """Whether this process writes the files."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every rank is here."""
    if get_world_size() > 1:
        dist.barrier()


def all_gather(value: Any) -> list[Any]:
    """Return the values of all ranks, any picklable object."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * get_world_size()
    dist.all_gather_object(values, value)
    return values


def gather(value: Any, dst: int = 0) -> list[Any]:
    """Return the values of all ranks on ``dst``, an empty list elsewhere."""
    values = all_gather(value)
    return values if get_rank() == dst else []


def all_reduce(value: torch.Tensor, average: bool = False) -> torch.Tensor:
    """Return the sum (or mean) of a tensor over ranks; the argument is untouched."""
    if get_world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / get_world_size() if average else total


def largest(value: int) -> int:
    """Return the largest of the ranks' integers."""
    if get_world_size() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(value, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def reduce_dict(values: dict[str, torch.Tensor], average: bool = True) -> dict:
    """Sum or average scalar tensors over ranks, key by key in sorted order."""
    if get_world_size() == 1:
        return values
    names = sorted(values)
    stacked = torch.stack([values[name].detach().float() for name in names])
    stacked = all_reduce(stacked, average)
    return dict(zip(names, stacked, strict=True))


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()


def unwrapped(model: Any) -> Any:
    """Return the model itself, where a wrapper lets several processes train it."""
    return model.module if hasattr(model, "module") else model
