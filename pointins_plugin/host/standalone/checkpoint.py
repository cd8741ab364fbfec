"""Checkpoints: written whole or not at all, read without running their code."""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.safe_pickle import torch_allows


def save_checkpoint(state: dict[str, Any], path: str) -> None:
    """Write a checkpoint beside its place, then move it there.

    Raises:
        UserError: the disk is full or cannot be written; what was at ``path`` is
            untouched and nothing half-written is left.
    """
    _replace(path, lambda file: torch.save(state, file))


def copy_checkpoint(source: str, path: str) -> None:
    """Copy a checkpoint to another name, as whole or not at all as it was saved."""

    def write(file: IO[bytes]) -> None:
        with open(source, "rb") as original:
            shutil.copyfileobj(original, file)

    _replace(path, write)


def _replace(path: str, write: Callable[[IO[bytes]], None]) -> None:
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"checkpoint {path} could not be saved ({reason}); the one before it is "
            "intact: make room there and go on with -r true"
        ) from None


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU with ``weights_only=True``.

    Raises:
        UserError: no such file, not a checkpoint, damaged, or without weights.
    """
    if not os.path.isfile(path):
        raise UserError(f"checkpoint {path} does not exist")
    try:
        with _numpy_scalars():
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # Bytes that are no checkpoint fail in as many ways as there are readers.
        raise UserError(
            f"checkpoint {path} cannot be read: it is damaged or no checkpoint of "
            "tensors and plain values"
        ) from None
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise UserError(
            f"checkpoint {path} holds no 'state_dict': it was not saved by this host "
            "or by Pointcept"
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UserError(
                f"checkpoint {path}: {key!r} in its 'state_dict' is no tensor"
            )
    return checkpoint


def _numpy_scalars() -> contextlib.AbstractContextManager:
    """Allow what a NumPy number is pickled as: Pointcept's best metric is one."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i8")]
    allowed = [np.dtype, *kinds, *((scalar, name) for name in names)]
    return torch_allows(allowed)


@dataclass
class Match:
    """How the weights of a checkpoint fit a model.

    Attributes:
        weights: those whose name and shape fit, under the model's names.
        missing: the model's keys that are not among them.
        unexpected: the checkpoint's keys (renamed) that the model does not have.
        share: part of the model's keys found; only of those under ``prefix``.
        prefix: where a backbone is loaded into a model with another head, the
            backbone's place in it; empty where all keys count.
        copied: how many of the weights are the teacher's, taken from the student.
    """

    weights: dict[str, torch.Tensor]
    missing: list[str]
    unexpected: list[str]
    share: float
    prefix: str
    copied: int = 0

    def __str__(self) -> str:
        text = f"{self.share:.1%} of the model's keys matched"
        return f"{text} (of those named {self.prefix}*)" if self.prefix else text


def match_weights(
    state: dict[str, torch.Tensor],
    model_state: dict[str, torch.Tensor],
    keywords: str = "",
    replacement: str = "",
    wrapped: bool = False,
    copy_student: bool = False,
) -> Match:
    """Rename a checkpoint's weights as Pointcept's loader does, and compare.

    Every key is given the prefix ``module.``, the first occurrence of ``keywords`` is
    replaced by ``replacement``, and the prefix is taken off again unless the model is
    ``wrapped`` for several processes. With ``copy_student`` a teacher that the
    checkpoint lacks is the student.
    """
    renamed = {}
    for key, value in state.items():
        key = key if key.startswith("module.") else f"module.{key}"
        key = key.replace(keywords, replacement, 1) if keywords else key
        renamed[key if wrapped else key.removeprefix("module.")] = value
    copied = {}
    if copy_student:
        copied = teacher_of_student(renamed, "module." if wrapped else "")
        renamed.update({key: copied[key] for key in copied if key in model_state})
    prefix = ""
    if keywords:
        prefix = replacement if wrapped else replacement.removeprefix("module.")
    weights = {
        key: value
        for key, value in renamed.items()
        if key in model_state and value.shape == model_state[key].shape
    }
    wanted = [key for key in model_state if key.startswith(prefix)]
    found = sum(key in weights for key in wanted)
    if wanted:
        share = found / len(wanted)
    else:  # a replacement that names nothing loads nothing
        share = 0.0 if prefix else 1.0
    return Match(
        weights=weights,
        missing=[key for key in model_state if key not in weights],
        unexpected=[key for key in renamed if key not in model_state],
        share=share,
        prefix=prefix,
        copied=sum(key in weights for key in copied),
    )


def teacher_of_student(
    state: dict[str, torch.Tensor], prefix: str = ""
) -> dict[str, torch.Tensor]:
    """Return a student's weights under the teacher's names; none if it has a teacher.

    An average that begins at random weights would teach the student noise.

    Args:
        state: weights of a model.
        prefix: of its names.
    """
    student, teacher = f"{prefix}student.", f"{prefix}teacher."
    if any(key.startswith(teacher) for key in state):
        return {}
    return {
        teacher + key.removeprefix(student): value
        for key, value in state.items()
        if key.startswith(student)
    }
