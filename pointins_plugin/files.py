"""Files that are written whole or not at all, and folders for them."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError

_IN_THE_WAY = (FileExistsError, NotADirectoryError)


def write_whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Write a file whole or not at all: to a hidden one beside it, then renamed.

    Args:
        path: the file; its folder is made, and what was there before is replaced.
        write: writes the content to the path it is given.

    Returns:
        The path.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        # below a file even the removal of nothing fails
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, whole or not at all; return its path.

    Raises:
        UserError: it cannot be written.
    """
    return write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_report(path: str | Path, report: dict[str, Any]) -> Path:
    """Write a report as JSON, whole or not at all; return its path.

    Args:
        path: the file.
        report: plain values; numbers that are not finite, which JSON has not, are
            written as null.

    Raises:
        UserError: it cannot be written.
    """
    return write_text(path, json.dumps(_finite(report), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    """Return nested dictionaries and lists with None for numbers JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_array(path: str | Path, values: np.ndarray) -> Path:
    """Write an array as ``.npy``, whole or not at all; return its path.

    Raises:
        UserError: it cannot be written.
    """

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:  # to a path NumPy adds .npy
            np.save(file, values, allow_pickle=False)

    return write_whole(path, write)


def make_folder(path: str | Path) -> Path:
    """Make a folder, and those above it, where they are not there; return it.

    Raises:
        UserError: it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def unwritable(path: Path, error: OSError) -> UserError:
    """Return what a user is told of a file or folder that cannot be written."""
    reason = error.strerror or error
    # the system's own words for a file in the way are "File exists", "Not a directory"
    places = (*path.parents, path) if isinstance(error, _IN_THE_WAY) else path.parents
    file = next((place for place in places if os.path.isfile(place)), None)
    if file is not None:
        reason = f"{file} is a file, not a folder"
    return UserError(f"cannot write {path}: {reason}; name another place")
