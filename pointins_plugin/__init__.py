"""pointins: instance-aware self-supervised pre-training for Pointcept.

Importing the package registers its models, losses, transforms, hooks and datasets
with the host, in any process.
"""

__version__ = "0.1.0"

from pointins_plugin import datasets, hooks, losses, models, transforms

__all__ = ["__version__", "datasets", "hooks", "losses", "models", "transforms"]
