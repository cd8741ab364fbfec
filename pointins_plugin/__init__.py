"""pointins: instance-aware self-supervised pre-training for Pointcept.

Importing the package registers its models, losses, transforms, hooks and datasets
with the host, in any process.
"""

import sys
from pathlib import Path

from pointins_plugin.errors import UserError, report_uncaught

__version__ = "0.1.0"


def _command_words() -> list[str] | None:
    """Return the words after `pointins` if this process is that command."""
    start = sys.argv[0] if sys.argv else ""
    if start == "-m":
        # before the words stands what Python runs: -m NAME, -mNAME or -um NAME
        last = sys.orig_argv[-len(sys.argv) :][0]
        option = last.removesuffix(f"{__name__}.cli")
        ours = option != last and option[:1] in ("", "-")
    else:
        ours = Path(start).stem == "pointins"
    return sys.argv[1:] if ours else None


_words = _command_words()
# A command imports this package before it can catch anything. Its version and help
# wait for nothing; `pointins doctor` is there to say what is wrong.
if _words not in ([], ["--version"], ["--help"], ["-h"]):
    try:
        from pointins_plugin import datasets, hooks, losses, models, transforms
        from pointins_plugin.pretrained import load
    except Exception as error:
        if _words is None or _words[:1] != ["doctor"]:
            if isinstance(error, UserError):
                sys.excepthook = report_uncaught
            elif _words is not None and isinstance(error, (ImportError, OSError)):
                sys.excepthook = report_uncaught
                raise UserError(
                    f"something is not installed or broken ({error}); `pointins "
                    "doctor` tells what"
                ) from error
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
