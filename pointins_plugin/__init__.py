"""pointins: instance-aware self-supervised pre-training for Pointcept.

Importing the package registers its models, losses, transforms, hooks and datasets
with the host, in any process.
"""

import sys

from pointins_plugin.errors import UserError, report_uncaught

__version__ = "0.1.0"

try:
    from pointins_plugin import datasets, hooks, losses, models, transforms
    from pointins_plugin.pretrained import load
except (UserError, ImportError) as error:
    # A command imports this package before it can catch anything. `pointins doctor`
    # is there to say what is wrong.
    if sys.argv[1:2] != ["doctor"]:
        if isinstance(error, UserError):
            sys.excepthook = report_uncaught
        raise

__all__ = [
    "__version__",
    "datasets",
    "hooks",
    "load",
    "losses",
    "models",
    "transforms",
]
