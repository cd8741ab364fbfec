"""Where tensors lie, and how they get there."""

import torch
from torch import Tensor


def on_gpu(tensor: Tensor) -> bool:
    """Return whether a tensor lies on a GPU."""
    return tensor.is_cuda


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return values of the host on a device, without waiting for its queue of work.

    From pageable memory torch would wait until all work before the copy is done.
    """
    if device.type == "cpu":
        return values
    return values.pin_memory().to(device, non_blocking=True)
