"""Several CPU processes: gloo where Pointcept asks for NCCL."""

import functools
import importlib.util
import multiprocessing
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from .patches import replace


def install() -> None:
    """Let Pointcept's launcher start CPU processes, and their models join by gloo."""
    init = DistributedDataParallel.__init__
    replace(DistributedDataParallel, "__init__", _without_devices(init))
    replace(dist, "all_reduce", _averaging(dist.all_reduce))
    if importlib.util.find_spec("pointcept") is not None:
        launch = importlib.import_module("pointcept.engines.launch")
        replace(launch, "_distributed_worker", cpu_worker)


def cpu_worker(
    local_rank,
    main_func,
    world_size,
    num_gpus_per_machine,
    machine_rank,
    dist_url,
    cfg,
    timeout=None,
):
    """Join the process group and call ``main_func(*cfg)``: a process of ``launch``.

    Parameters are those of Pointcept's worker; ``num_gpus_per_machine`` counts
    processes. A spawned process unpickles this function by its name, which imports
    the package and with it prepares the process.
    """
    from pointcept.utils import comm

    # Loaders of a spawned process would spawn as well, and import everything again.
    if "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux":
        multiprocessing.set_start_method("fork", force=True)
    # Every process would use all cores and wait for the others.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_gpus_per_machine))
    dist.init_process_group(
        backend="gloo",
        init_method=dist_url,
        world_size=world_size,
        rank=machine_rank * num_gpus_per_machine + local_rank,
        **({} if timeout is None else {"timeout": timeout}),
    )
    for machine in range(world_size // num_gpus_per_machine):
        first = machine * num_gpus_per_machine
        group = dist.new_group(list(range(first, first + num_gpus_per_machine)))
        if machine == machine_rank:
            comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()
    main_func(*cfg)
    # No process takes the group down while another still works.
    comm.synchronize()
    dist.destroy_process_group()


def _without_devices(init):
    @functools.wraps(init)
    def start(self, module, device_ids=None, output_device=None, **kwargs):
        if not any(p.is_cuda for p in module.parameters()):
            device_ids = output_device = None
        init(self, module, device_ids, output_device, **kwargs)

    return start


def _averaging(all_reduce):
    """Give gloo the mean, which it lacks: the sum, divided."""

    @functools.wraps(all_reduce)
    def reduce(tensor, op=dist.ReduceOp.SUM, group=None, async_op=False):
        if op != dist.ReduceOp.AVG or dist.get_backend(group) != "gloo":
            return all_reduce(tensor, op=op, group=group, async_op=async_op)
        all_reduce(tensor, group=group)
        tensor.div_(dist.get_world_size(group))
        return None

    return reduce
