"""Start the processes of a run."""

import logging
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pointins_plugin.errors import UserError

from . import comm
from .signals import STOP_CODES, StopSignals, exit_code

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
        UserError: more processes than GPUs, no address for several machines, what a
            process raised as such, or one that was killed.
        SystemExit: a signal stopped the run; its processes are sent it too.
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
    # what it warns of, that it ends the other processes, is told by the error
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    messages = mp.get_context("spawn").SimpleQueue()
    threads = max(1, (os.cpu_count() or 1) // num_gpus_per_machine)
    arguments = (messages, threads, first, world_size, dist_url, timeout, main_func)
    context = mp.spawn(
        _spawned, nprocs=num_gpus_per_machine, args=(*arguments, cfg), join=False
    )
    stop = StopSignals(forward=context.pids())
    try:
        with stop:
            while not context.join():
                pass
    except mp.ProcessRaisedException:
        raise
    except mp.ProcessExitedException as error:
        if not messages.empty():
            raise UserError(messages.get()) from None
        if stop.number is not None:
            raise SystemExit(exit_code(stop.number)) from None
        if error.exit_code in STOP_CODES:
            raise SystemExit(error.exit_code) from None
        raise UserError(
            f"process {error.error_index} of {num_gpus_per_machine} ended with "
            f"{error.signal_name or f'exit code {error.exit_code}'}; if it was killed "
            "for memory, use a smaller batch_size or fewer processes"
        ) from None


def _spawned(
    local_rank, messages, threads, first, world_size, dist_url, timeout, main_func, cfg
):
    os.environ["LOCAL_RANK"] = str(local_rank)
    if not torch.cuda.is_available():
        # every process would use all cores and wait for the others
        torch.set_num_threads(threads)
    rank = first + local_rank
    try:
        _run(local_rank, rank, world_size, dist_url, timeout, main_func, cfg)
    except UserError as error:
        # spawn would make a traceback of it
        messages.put(str(error))
        os._exit(2)  # not sys.exit: the group's clean-up may wait for other ranks


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
    except SystemExit:
        # A signal stops all ranks together. The group's threads may abort a process
        # that ends without having taken it down, and hide the signal's exit code.
        dist.destroy_process_group()
        raise
    # no rank takes the group down while another still works
    comm.synchronize()
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
