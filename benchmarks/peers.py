"""Pointcept's own code beside ours in one process."""

import os
from types import ModuleType


def pointcept_transforms() -> ModuleType | None:
    """Return ``pointcept.datasets.transform``; None without ``POINTCEPT_ROOT``.

    The package itself stays on its own runtime: set ``POINTINS_HOST`` before the first
    import of it, as this module does.
    """
    if not os.environ.get("POINTCEPT_ROOT"):
        return None
    from pointins_plugin.host import pointcept_cpu
    from pointins_plugin.host.locate import pointcept_error

    if pointcept_error() is not None:
        return None
    pointcept_cpu.install()
    from pointcept.datasets import transform

    return transform


os.environ["POINTINS_HOST"] = "standalone"
