"""What a head of a model is given."""

from collections.abc import Callable

import torch.nn as nn
from torch import Tensor


class _ReachedError(Exception):
    """Ends a forward pass whose first part was all that was needed."""


def head_input(head: nn.Module, forward: Callable[[], object]) -> Tensor:
    """Return the first input of a head; the forward pass ends there.

    Args:
        head: a module of the model.
        forward: runs the model once.

    Raises:
        RuntimeError: the forward pass ends without the head.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])
        raise _ReachedError

    handle = head.register_forward_pre_hook(keep)
    try:
        forward()
    except _ReachedError:
        return seen[0]
    finally:
        handle.remove()
    raise RuntimeError(f"the forward pass does not use {type(head).__name__}")
