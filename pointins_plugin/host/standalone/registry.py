"""Registries: names in configs to classes."""

import difflib
import inspect
import traceback
from collections.abc import Callable
from typing import Any

from pointins_plugin.errors import UserError


def _name(kind: Callable) -> str:
    return getattr(kind, "__name__", str(kind))


def nearest_name(name: str, names: Any) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of names, or nothing."""
    close = difflib.get_close_matches(str(name), [str(n) for n in names], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class Registry:
    """A table of classes that configs build by name.

    Args:
        name: what the table holds, in error messages ("models").
    """

    def __init__(self, name: str):
        self.name = name
        self.module_dict: dict[str, Callable] = {}

    def __len__(self) -> int:
        return len(self.module_dict)

    def __contains__(self, key: str) -> bool:
        return key in self.module_dict

    def __repr__(self) -> str:
        return f"Registry({self.name}, {sorted(self.module_dict)})"

    def get(self, key: str) -> Callable | None:
        """Return the class of a name, or None."""
        return self.module_dict.get(key)

    def register_module(
        self,
        name: str | list[str] | None = None,
        force: bool = False,
        module: Callable | None = None,
    ) -> Callable:
        """Register a class, as a decorator or directly with ``module``.

        Raises:
            KeyError: the name is taken and ``force`` is not set.
        """
        if module is None:
            return lambda cls: self.register_module(name, force, cls)
        names = [name] if isinstance(name, str) else name or [module.__name__]
        for key in names:
            if key in self.module_dict and not force:
                raise KeyError(f"{key} is already registered in {self.name}")
            self.module_dict[key] = module
        return module

    def build(self, cfg: dict, **defaults: Any) -> Any:
        """Build ``cfg["type"]`` with the other entries as keyword arguments.

        Raises:
            UserError: no such name, no type, or a keyword or a value that the class
                does not accept.
        """
        if not isinstance(cfg, dict) or "type" not in cfg:
            raise UserError(f"config: an entry of {self.name} needs a type: {cfg!r}")
        options = {**defaults, **cfg}
        kind = options.pop("type")
        if isinstance(kind, str):
            if kind not in self.module_dict:
                raise UserError(
                    f"config: {kind!r} is not in the {self.name} registry"
                    f"{nearest_name(kind, self.module_dict)}"
                )
            kind = self.module_dict[kind]
        check_keywords(kind, options)
        try:
            return kind(**options)
        except ValueError as error:
            # A class says what is wrong with its own arguments.
            raise UserError(f"config: {_name(kind)}: {error}") from None
        except TypeError as error:
            # Most often a value of another type than the class takes; if it is a
            # mistake in its code, the line tells where, and the cause is kept.
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = (str(error) or "TypeError").splitlines()[0]
            raise UserError(
                f"config: {_name(kind)}: {reason} ({place.filename}, line "
                f"{place.lineno}); look for an option of a wrong type"
            ) from error


def accepted_keywords(kind: Callable) -> tuple[dict[str, bool], bool]:
    """Return a class's keywords, each with whether it is required, and if any will do.

    A class whose signature cannot be read accepts anything.
    """
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return {}, True
    named = {
        p.name: p.default is p.empty
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def check_keywords(kind: Callable, options: dict[str, Any]) -> None:
    """Raise a UserError for a keyword that a class does not accept or misses."""
    named, accepts_any = accepted_keywords(kind)
    name = getattr(kind, "__name__", str(kind))
    for key in options:
        if key not in named and not accepts_any:
            raise UserError(
                f"config: {name} has no option {key!r}{nearest_name(key, named)}"
            )
    for key, required in named.items():
        if required and key not in options:
            raise UserError(f"config: {name} needs the option {key!r}")


MODELS = Registry("models")
MODULES = Registry("modules")
LOSSES = Registry("losses")
TRANSFORMS = Registry("transforms")
DATASETS = Registry("datasets")
HOOKS = Registry("hooks")
TRAINERS = Registry("trainers")
TESTERS = Registry("testers")
OPTIMIZERS = Registry("optimizers")
SCHEDULERS = Registry("schedulers")
