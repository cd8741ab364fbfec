"""pointins: instance-aware self-supervised pre-training for Pointcept.

Importing the package registers its models, losses, transforms, hooks and datasets
with the host, in any process.
"""

import sys

from pointins_plugin.errors import UserError, report_uncaught

__version__ = "0.1.0"

try:
    from pointins_plugin import datasets, hooks, losses, models, transforms
except UserError:
    # A command imports this package before it can catch anything.
    sys.excepthook = report_uncaught
    raise

__all__ = ["__version__", "datasets", "hooks", "losses", "models", "transforms"]
