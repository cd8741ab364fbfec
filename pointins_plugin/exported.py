"""Files of exported encoders: weights as safetensors, the rest as JSON beside them.

Nothing in such a file is run when it is read.
"""

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.files import write_whole

WEIGHTS, SPEC = "model.safetensors", "config.json"
FORMAT = "pointins-encoder-1"
_KEY = "pointins"


def find_export(path: str | os.PathLike) -> Path | None:
    """Return the weights of an export, None for a path that is something else.

    Raises:
        UserError: a folder without an export.
    """
    path = Path(path)
    if path.is_dir():
        if (path / WEIGHTS).is_file():
            return path / WEIGHTS
        raise UserError(
            f"folder {path} holds no {WEIGHTS}; name what `pointins export` wrote, or "
            "a checkpoint"
        )
    return path if path.suffix == ".safetensors" else None


def write_export(
    path: str | os.PathLike, spec: dict[str, Any], weights: dict[str, Tensor]
) -> list[Path]:
    """Write an export; return its files. Each is written whole or not at all.

    Args:
        path: a file that ends in ``.safetensors``, which holds the specification too;
            or a folder, for ``model.safetensors`` and a ``config.json`` to read.
        spec: plain values.
        weights: tensors by name.

    Raises:
        UserError: safetensors is missing, or the path cannot be written.
    """
    save = _safetensors("save")
    path = Path(path)
    text = json.dumps(spec)
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    data = save(tensors, metadata={"format": "pt", _KEY: text})
    if path.suffix == ".safetensors":
        return [_write(path, data)]
    described = (json.dumps(spec, indent=1) + "\n").encode()
    return [_write(path / WEIGHTS, data), _write(path / SPEC, described)]


def _write(path: Path, data: bytes) -> Path:
    return write_whole(path, lambda partial: partial.write_bytes(data))


def read_export(path: Path, expected: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the specification and the weights of an export.

    Args:
        path: the safetensors file.
        expected: the format that its specification must name.

    Raises:
        UserError: it is missing, damaged, foreign or of another format.
    """
    safe_open = _safetensors("safe_open")
    if not path.is_file():
        raise UserError(f"export {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}
    except Exception as error:  # the library's own kind, and whatever bytes provoke
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"export {path} cannot be read ({reason})") from None
    try:
        spec = json.loads(metadata[_KEY])
        found = spec["format"]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} holds weights of something else: `pointins export` did not "
            "write it"
        ) from None
    if found != expected:
        raise UserError(
            f"export {path} has format {found!r}, this version reads {expected!r}: "
            "export the checkpoint again"
        )
    return spec, weights


def _safetensors(name: str) -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise UserError(
            'exported encoders need safetensors: pip install "pointins[export]"'
        ) from None
    return getattr(safetensors if name == "safe_open" else safetensors.torch, name)
