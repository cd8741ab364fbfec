"""Where Pointcept lies, without importing it."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def use_checkout() -> str | None:
    """Put the checkout to be used first on ``sys.path`` and return its folder.

    It is ``POINTCEPT_ROOT``, else the first of ``PYTHONPATH`` (a run's snapshot, which
    ``python -m`` would place after the current folder), else whatever ``import
    pointcept`` finds; None where there is none.
    """
    named = [os.environ.get("POINTCEPT_ROOT", "")]
    named += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for folder in filter(None, named):
        if (Path(folder) / "pointcept" / "__init__.py").is_file():
            folder = os.path.abspath(folder)
            if sys.path[:1] != [folder]:
                sys.path.insert(0, folder)
            return folder
    spec = importlib.util.find_spec("pointcept")
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).resolve().parent.parent)


def library(name: str) -> Path | None:
    """Return the Python part of one of Pointcept's ``libs``, or None.

    A snapshot of a run has no ``libs``: it lies below its checkout, or the run was
    started there.
    """
    for root in _roots():
        folder = root / "libs" / name / "functions"
        if (folder / "__init__.py").is_file():
            return folder
    return None


def _roots() -> Iterator[Path]:
    checkout = use_checkout()
    if checkout is not None:
        yield Path(checkout)
        yield from Path(checkout).parents
    yield Path.cwd()
