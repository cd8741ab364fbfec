"""Attributes that are replaced, and put back."""

from typing import Any

_MISSING = object()
_replaced: list[tuple[Any, str, Any]] = []


def replace(target: Any, name: str, value: Any) -> None:
    """Set an attribute and remember what it was."""
    _replaced.append((target, name, vars(target).get(name, _MISSING)))
    setattr(target, name, value)


def undo() -> None:
    """Put every attribute back, the latest first."""
    while _replaced:
        target, name, value = _replaced.pop()
        if value is _MISSING:
            delattr(target, name)
        else:
            setattr(target, name, value)
