"""Device calls that stay on the CPU."""

import functools
import warnings

import torch

from .patches import replace

_ALIASES = ("Float", "Double", "Half", "Byte", "Char", "Short", "Int", "Long", "Bool")


def install() -> None:
    """Let ``.cuda()``, ``torch.cuda.*Tensor`` and ``device="cuda"`` mean the CPU."""
    for kind in (
        torch.Tensor,
        torch.nn.Module,
        torch.UntypedStorage,
        torch.TypedStorage,
    ):
        replace(kind, "cuda", _unmoved)
    for name in _ALIASES:
        replace(torch.cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"))
    # Its loaders ask for memory that copies faster to a GPU.
    warnings.filterwarnings("ignore", message="'pin_memory' argument is set as true")
    with torch.device("cpu"):
        torch.zeros(0)  # at its first use torch notes which functions this concerns
    replace(torch, "zeros", _on_cpu(torch.zeros))  # of the part evaluators
    replace(
        torch.nn.SyncBatchNorm, "convert_sync_batchnorm", classmethod(_unsynchronized)
    )


def _unmoved(self, *args, **kwargs):
    return self


def _on_cpu(factory):
    @functools.wraps(factory)
    def create(*args, device=None, **kwargs):
        if device is not None and torch.device(device).type == "cuda":
            device = None
        return factory(*args, device=device, **kwargs)

    return create


def _unsynchronized(cls, module, process_group=None):
    """Leave batch norms as they are: synchronized ones run on GPUs only."""
    return module
