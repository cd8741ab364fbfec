"""Configurations as Python text that reads back equal, and as plain containers."""

import keyword
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError

WIDTH = 88
INDENT = "    "
_BRACKETS = {list: "[]", tuple: "()", set: "{}"}


def to_source(values: dict[str, Any]) -> str:
    """Return one assignment for every entry, broken into lines where it is long.

    Raises:
        UserError: a value that is no plain one: not None, a number, text, a range, or
            a list, tuple, set or dictionary of such. Its key is named.
    """
    return "".join(
        f"{key} = {_source(value, '', len(key) + 3, key)}\n"
        for key, value in values.items()
    )


def _source(value: Any, indent: str, column: int, where: str) -> str:
    """Return the text of a value that starts at a column of a line."""
    if isinstance(value, dict):
        named = all(_is_argument(key) for key in value)
        opening, closing = ("dict(", ")") if named else ("{", "}")
        labels = [f"{key}=" if named else f"{_atom(key, where)}: " for key in value]
        places = [f"{where}.{key}" for key in value]
        items: Iterable[Any] = value.values()
    elif type(value) in _BRACKETS and (value or type(value) is not set):
        opening, closing = _BRACKETS[type(value)]
        items = sorted(value, key=repr) if isinstance(value, set) else value
        labels = [""] * len(value)
        places = [f"{where}.{position}" for position in range(len(value))]
    else:
        return _atom(value, where)
    deeper = indent + INDENT
    parts = [
        label + _source(item, deeper, len(deeper) + len(label), place)
        for label, item, place in zip(labels, items, places, strict=True)
    ]
    single = "," if isinstance(value, tuple) and len(value) == 1 else ""
    line = f"{opening}{', '.join(parts)}{single}{closing}"
    # one column is left for the comma that follows
    if column + len(line) < WIDTH and "\n" not in line:
        return line
    lines = "".join(f"{deeper}{part},\n" for part in parts)
    return f"{opening}\n{lines}{indent}{closing}"


def _is_argument(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _atom(value: Any, where: str) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, str):
        # two braces would be read as a template
        return repr(str(value)).replace("{{", "{\\x7b")
    if value is None or type(value) in (bool, int, float, complex, bytes, range, set):
        return repr(value)
    if isinstance(value, tuple) and value:  # the key of a dictionary
        return f"({', '.join(_atom(item, where) for item in value)},)"
    raise UserError(
        f"config: {where} is a {type(value).__name__}, which config.py cannot hold; "
        "use plain numbers, text, lists and dictionaries"
    )


def plain_values(value: Any) -> Any:
    """Return nested containers as plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    return value
