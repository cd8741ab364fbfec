"""Find Pointcept without importing its models."""

import importlib.util
import os
import sys
from pathlib import Path


def pointcept_error() -> str | None:
    """Put ``POINTCEPT_ROOT`` on the path; return why Pointcept cannot be used, or None.

    Pointcept is no installable package: a checkout is found by ``POINTCEPT_ROOT`` or
    because it is on ``PYTHONPATH``.
    """
    root = os.environ.get("POINTCEPT_ROOT")
    if root:
        if not (Path(root) / "pointcept" / "__init__.py").is_file():
            return f"POINTCEPT_ROOT={root} holds no pointcept folder"
        if root not in sys.path:
            sys.path.insert(0, root)
    if importlib.util.find_spec("pointcept") is None:
        return "no module named pointcept"
    for package in ("spconv", "torch_scatter", "timm", "tensorboardX", "wandb"):
        if importlib.util.find_spec(package) is None:
            return f"its requirement {package} is not installed"
    return None
