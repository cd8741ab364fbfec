"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from pointins_plugin.errors import UserError


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
        # the system's own word for this is "File exists", or "Not a directory"
        file = next((folder for folder in path.parents if os.path.isfile(folder)), None)
        reason = f"{file} is a file, not a folder" if file else error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; name another place") from None
    finally:
        # below a file even the removal of nothing fails
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path
