"""Helpers of config files: variables that a file uses itself and nobody reads later."""

from collections.abc import Iterator
from typing import Any

# Keys that trainers, testers and commands read. All others of a file are helpers, or
# belong to somebody's own trainer.
READ_KEYS = frozenset(
    (
        *("model", "data", "optimizer", "scheduler", "param_dicts", "hooks"),
        *("train", "test", "test_only", "evaluate", "custom_imports"),
        *("weight", "resume", "save_path", "seed", "num_worker", "num_threads"),
        *("batch_size", "batch_size_val", "batch_size_test", "epoch", "eval_epoch"),
        *("clip_grad", "gradient_accumulation_steps", "mix_prob", "sync_bn"),
        *("enable_amp", "amp_dtype", "empty_cache", "empty_cache_per_epoch"),
        *("find_unused_parameters", "enable_wandb", "wandb_project", "wandb_key"),
    )
)


def places_of_helper(config: dict[str, Any], key: str) -> list[str]:
    """Return where the value of a helper went when the file was read, as dotted keys.

    Args:
        config: of top-level keys.
        key: one of them.

    Returns:
        Of what is read, the entries with an equal value; numbers, booleans and None
        count only under the same name. Nothing where ``key`` is read itself.
    """
    if key in READ_KEYS or key not in config:
        return []
    value = config[key]
    telling = isinstance(value, (str, dict, list, tuple)) and len(value) > 0
    return [
        dotted
        for name in config
        if name in READ_KEYS
        for dotted, last, found in _entries(config[name], name)
        if (telling or last == key) and type(found) is type(value) and found == value
    ]


def _entries(node: Any, dotted: str) -> Iterator[tuple[str, str, Any]]:
    """Yield all entries below a value: dotted key, its last part, value."""
    if isinstance(node, dict):
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list):
        children = [(str(index), value) for index, value in enumerate(node)]
    else:
        return
    for last, value in children:
        yield f"{dotted}.{last}", last, value
        yield from _entries(value, f"{dotted}.{last}")
