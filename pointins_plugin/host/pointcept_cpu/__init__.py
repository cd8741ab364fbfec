"""What an unmodified Pointcept (d74c646) lacks to run on a machine without CUDA.

    cd Pointcept
    python -m pointins_plugin.host.pointcept_cpu tools/train.py --config-file ...

runs one of its scripts, on one process or several. In Python, call ``install()``
before the first ``import pointcept``. Where CUDA is available nothing is changed, and
a package that is installed and runs on CPU is not replaced. The folder depends on
torch, NumPy and SciPy only: it can be copied and run by itself.
"""

import torch

__all__ = ["install", "uninstall"]

_installed = False


def install(force: bool = False) -> bool:
    """Make this process ready for Pointcept on CPU; return whether it now is.

    Args:
        force: also where CUDA is available, to run on its CPU.

    Effects, all of them once in a process: device calls stay on the CPU (``devices``),
    several processes talk by gloo (``distributed``), calls that newer libraries lack
    are back (``legacy``), spconv computes by other kernels (``spconv_kernels``), and
    packages that are missing or need CUDA have substitutes (``finder``).
    """
    global _installed
    if torch.cuda.is_available() and not force:
        return False
    if not _installed:
        from . import devices, distributed, finder, legacy, spconv_kernels

        _installed = True
        for part in (finder, devices, legacy, spconv_kernels, distributed):
            part.install()
    return True


def uninstall() -> None:
    """Take everything back, where Pointcept turned out not to be usable."""
    global _installed
    if _installed:
        from . import finder, patches

        patches.undo()
        finder.remove()
        _installed = False
