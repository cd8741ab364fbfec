"""Seeds: every random draw of a run is a function of its seed and its place."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(*keys: int) -> int:
    """Mix integers into one seed below 2^32."""
    return int(np.random.SeedSequence([int(key) for key in keys]).generate_state(1)[0])


def get_random_seed() -> int:
    """Return a seed drawn from the operating system."""
    return int(np.random.SeedSequence().generate_state(1)[0] % 2**31)


def set_seed(seed: int | None) -> None:
    """Seed Python's, NumPy's and torch's generators; None draws a seed."""
    seed = get_random_seed() if seed is None else seed
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generators inside the block and restore them after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def in_evaluation(run: Callable, *args: Any, **options: Any) -> Any:
    """Return what a model says in evaluation, whatever was drawn before.

    Backbones shuffle their curves in evaluation too, on either host. Here they draw the
    same each time, so that equal batches get equal answers, and draws after it are
    those that would have been without it.

    Args:
        run: the model, or a method of it.
        *args: what it is given.
        **options: its keywords.
    """
    with seeded(0):
        return run(*args, **options)
