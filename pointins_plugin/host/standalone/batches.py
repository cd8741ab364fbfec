"""Batches on their way to the model and from it."""

from collections.abc import Mapping
from typing import Any

import torch


def batch_to(
    batch: Mapping[str, Any], device: Any, non_blocking: bool = False
) -> dict[str, Any]:
    """Return a batch with its tensors on a device, and the rest as it is."""
    return {
        key: value.to(device, non_blocking=non_blocking)
        if isinstance(value, torch.Tensor)
        else value
        for key, value in batch.items()
    }


def to_numpy(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch with arrays for tensors, and the rest as it is."""
    return {
        key: value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
