"""Find Pointcept without importing its models."""

import importlib.util
import os
from pathlib import Path

import torch

from .pointcept_cpu.checkout import use_checkout

# What its modules import at once, and no substitute stands in for.
REQUIRED = ("spconv", "tensorboardX", "einops", "yapf")
# On CPU these have substitutes.
REQUIRED_ON_CUDA = ("torch_scatter", "torch_cluster", "timm", "wandb", "pointops")


def pointcept_error() -> str | None:
    """Put Pointcept on the path; return why it cannot be used, or None.

    It is no installable package: a checkout is found by ``POINTCEPT_ROOT`` or because
    it is on ``PYTHONPATH``.
    """
    root = os.environ.get("POINTCEPT_ROOT")
    if root and not (Path(root) / "pointcept" / "__init__.py").is_file():
        return f"POINTCEPT_ROOT={root} holds no pointcept folder"
    if use_checkout() is None:
        return "no module named pointcept"
    packages = REQUIRED
    if torch.cuda.is_available():
        packages += REQUIRED_ON_CUDA
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    if lacking:
        return f"of its requirements {' '.join(lacking)} cannot be imported"
    return None
