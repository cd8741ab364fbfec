"""The one room that knows which runtime the plugin is plugged into.

``POINTINS_HOST`` chooses: ``pointcept``, ``standalone`` or ``auto`` (Pointcept if it
can be imported, also from ``POINTCEPT_ROOT``). Everything else in the package imports
these names from here.
"""

import os

from pointins_plugin.errors import UserError

_CHOICES = ("auto", "pointcept", "standalone")
_choice = os.environ.get("POINTINS_HOST", "auto") or "auto"
if _choice not in _CHOICES:
    raise UserError(
        f"POINTINS_HOST={_choice!r} is no host: use one of {', '.join(_CHOICES)}"
    )

HOST = "standalone"
if _choice != "standalone":
    from pointins_plugin.host import pointcept_cpu
    from pointins_plugin.host.locate import pointcept_error

    _error = pointcept_error()
    if _error is None:
        try:
            pointcept_cpu.install()
            from pointins_plugin.host.pointcept import *  # noqa: F403
            from pointins_plugin.host.pointcept import __all__ as _names

            HOST = "pointcept"
        # A requirement that is installed but broken fails in one of these ways.
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            _error = f"its import failed ({error})"
            pointcept_cpu.uninstall()
    if _error and (_choice == "pointcept" or os.environ.get("POINTCEPT_ROOT")):
        raise UserError(
            f"Pointcept cannot be used: {_error}; set POINTCEPT_ROOT to a checkout "
            "with its requirements installed (docs/pointcept.md), or "
            "POINTINS_HOST=standalone"
        )

if HOST == "standalone":
    from pointins_plugin.host.names import *  # noqa: F403
    from pointins_plugin.host.names import __all__ as _names

from pointins_plugin.host.common import *  # noqa: E402, F403
from pointins_plugin.host.common import __all__ as _common  # noqa: E402

__all__ = ["HOST", *_names, *_common]
