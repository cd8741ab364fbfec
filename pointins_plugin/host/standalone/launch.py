"""Start the processes of a run."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pointins_plugin.errors import UserError

DEFAULT_TIMEOUT = timedelta(minutes=60)


def launch(
    main_func: Callable,
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    cfg: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Call ``main_func(*cfg)`` in every process of a run.

    Without CUDA ``num_gpus_per_machine`` counts CPU processes (gloo). Under torchrun
    (``RANK`` and ``WORLD_SIZE`` are set) this process joins the group and spawns none.
    ``main_func`` must be importable by name: children import its module, and with it
    the plugin.

    Raises:
        UserError: more processes than GPUs, or no address for several machines.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", 0))
        _run(local, rank, world_size, "env://", timeout, main_func, cfg)
        return
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*cfg)
        return
    available = torch.cuda.device_count()
    if torch.cuda.is_available() and num_gpus_per_machine > available:
        raise UserError(
            f"{num_gpus_per_machine} GPUs asked for, but this machine has {available}: "
            f"use -g {available}"
        )
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise UserError(
                "several machines need one address: --dist-url tcp://HOST:PORT"
            )
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    first = machine_rank * num_gpus_per_machine
    arguments = (first, world_size, dist_url, timeout, main_func, cfg)
    mp.spawn(_spawned, nprocs=num_gpus_per_machine, args=arguments)


def _spawned(local_rank, first, world_size, dist_url, timeout, main_func, cfg):
    os.environ["LOCAL_RANK"] = str(local_rank)
    rank = first + local_rank
    _run(local_rank, rank, world_size, dist_url, timeout, main_func, cfg)


def _run(
    local_rank: int,
    rank: int,
    world_size: int,
    dist_url: str,
    timeout: timedelta,
    main_func: Callable,
    cfg: tuple[Any, ...],
) -> None:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        backend="nccl" if cuda else "gloo",
        init_method=dist_url,
        world_size=world_size,
        rank=rank,
        timeout=timeout,
    )
    try:
        main_func(*cfg)
    finally:
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
