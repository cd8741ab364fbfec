"""Checkpoints: written whole or not at all, read without running their code."""

import os
import pickle
import zipfile
from typing import Any

import torch

from pointins_plugin.errors import UserError


def save_checkpoint(state: dict[str, Any], path: str) -> None:
    """Write a checkpoint beside its place, then move it there.

    Raises:
        UserError: the disk is full or cannot be written; what was at ``path`` is
            untouched and nothing half-written is left.
    """
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"checkpoint {path} could not be saved ({reason}); the one before it is "
            "intact: free some space and go on with -r true"
        ) from None


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU with ``weights_only=True``.

    Raises:
        UserError: no such file, not a checkpoint, damaged, or without weights.
    """
    if not os.path.isfile(path):
        raise UserError(f"checkpoint {path} does not exist")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ):
        raise UserError(
            f"checkpoint {path} cannot be read: it is damaged or no checkpoint of "
            "tensors and plain values"
        ) from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(
            f"checkpoint {path} holds no 'state_dict': it was not saved by this host "
            "or by Pointcept"
        )
    return checkpoint


def translate_keys(
    state: dict[str, Any], keywords: str, replacement: str, wrapped: bool
) -> dict[str, Any]:
    """Rename weights as Pointcept's loader does.

    Every key is given the prefix ``module.``, the first occurrence of ``keywords`` is
    replaced by ``replacement``, and the prefix is taken off again unless the model is
    wrapped for several processes.
    """
    weights = {}
    for key, value in state.items():
        key = key if key.startswith("module.") else f"module.{key}"
        key = key.replace(keywords, replacement, 1) if keywords else key
        weights[key if wrapped else key.removeprefix("module.")] = value
    return weights


def matched_share(
    weights: dict[str, Any], model_state: dict[str, Any], prefix: str = ""
) -> tuple[float, list[str]]:
    """Return the share of a model's keys found by name and shape, and the others.

    Only keys that contain ``prefix`` count, so that a backbone can be loaded into a
    model with a new head.
    """
    wanted = [key for key in model_state if prefix in key]
    missing = [
        key
        for key in wanted
        if key not in weights or weights[key].shape != model_state[key].shape
    ]
    return 1 - len(missing) / max(len(wanted), 1), missing
