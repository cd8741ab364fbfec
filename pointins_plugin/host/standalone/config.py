"""Configurations: Python files that inherit, and overrides from the command line."""

import argparse
import ast
import copy
import hashlib
import importlib
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from addict import Dict

from pointins_plugin.errors import UserError

from . import registry as registries
from .config_text import to_source
from .helper_keys import places_of_helper
from .registry import Registry, accepted_keywords, nearest_name

_BASE = "_base_"
_DELETE = "_delete_"

# Lists that Pointcept's configs import from it: they read the same without it.
_LISTS = {
    "pointcept.datasets.preprocessing.scannet.meta_data.scannet200_constants": (
        "pointins_plugin.scannet_labels"
    ),
}

# Keys that scripts set whether or not a config names them.
RUNTIME_KEYS = ("save_path", "resume", "weight", "seed", "num_threads")


class ConfigDict(Dict):
    """A dictionary with attribute access that does not invent missing keys."""

    def __missing__(self, name: str) -> Any:
        raise KeyError(name)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except KeyError:
            raise AttributeError(
                f"the config has no key {name!r}{nearest_name(name, self)}"
            ) from None


class Config:
    """A configuration read from a Python file.

    ``_base_`` names files (relative to this one) to inherit from, dictionaries are
    merged key by key, ``_delete_=True`` in one replaces instead, and
    ``{{ _base_.key }}`` stands for a value of a base. Same rules as Pointcept's.
    """

    def __init__(self, cfg_dict: dict | None = None, filename: str | None = None):
        object.__setattr__(self, "_cfg_dict", ConfigDict(cfg_dict or {}))
        object.__setattr__(self, "filename", filename)

    @staticmethod
    def fromfile(filename: str | os.PathLike, import_custom_modules: bool = True):
        """Read a config file and import what its ``custom_imports`` names.

        Raises:
            UserError: no such file, a syntax error (with its line), a base that is
                missing or in conflict, a module that cannot be imported.
        """
        path = Path(filename).expanduser().resolve()
        values = _read(path)
        custom = values.get("custom_imports")
        if import_custom_modules and custom:
            import_modules(path, **custom)
        return Config(values, filename=str(path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cfg_dict, name)

    def __getitem__(self, name: str) -> Any:
        return self._cfg_dict[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        self._cfg_dict[name] = ConfigDict(value) if isinstance(value, dict) else value

    def __contains__(self, name: str) -> bool:
        return name in self._cfg_dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._cfg_dict)

    def __len__(self) -> int:
        return len(self._cfg_dict)

    def __repr__(self) -> str:
        return f"Config(path: {self.filename}): {self._cfg_dict!r}"

    def __deepcopy__(self, memo: dict) -> "Config":
        return Config(copy.deepcopy(self._cfg_dict, memo), self.filename)

    def __getstate__(self):
        return self._cfg_dict, self.filename

    def __setstate__(self, state):
        object.__setattr__(self, "_cfg_dict", state[0])
        object.__setattr__(self, "filename", state[1])

    @property
    def pretty_text(self) -> str:
        """The whole configuration as Python text that reads back equal."""
        return to_source(self._cfg_dict)

    def digest(self, without: Iterable[str] = ()) -> str:
        """Return a hash of all values except those of top-level keys in ``without``."""
        left_out = set(without)
        kept = {k: v for k, v in self._cfg_dict.items() if k not in left_out}
        return hashlib.sha256(to_source(kept).encode()).hexdigest()[:16]

    def dump(self, file: str | os.PathLike | None = None) -> str | None:
        """Write ``pretty_text`` to a file, or return it."""
        if file is None:
            return self.pretty_text
        # of this process alone: another may write the same config
        temporary = f"{file}.{os.getpid()}.tmp"
        Path(temporary).write_text(self.pretty_text, encoding="utf-8")
        os.replace(temporary, file)
        return None

    def merge_from_dict(self, options: dict[str, Any]) -> None:
        """Set dotted keys, lists being indexed by integers or an entry's ``type``.

        E.g. ``a.b.0.c`` or ``hooks.CheckpointSaver.save_freq``, which must be one.

        Raises:
            UserError: a key that is neither in the config nor an option of the class
                it would configure; a helper of the file, whose value is in its places
                already.
        """
        for key, value in options.items():
            places = places_of_helper(self._cfg_dict, key)
            if places:
                raise UserError(
                    f"option {key}: it was used up when the config was read, setting "
                    f"it does nothing; its value is in {_listed(places)}: set "
                    f"{'that' if len(places) == 1 else 'those'}"
                )
            _set_dotted(self._cfg_dict, key, value)


def _listed(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def find_option(
    root: dict, dotted: str, may_add: Callable[[dict, str, str], bool]
) -> list[str | int]:
    """Return the keys and positions of an option, an entry's type being its position.

    Args:
        root: the configuration.
        dotted: key of the option.
        may_add: whether a dictionary may be given a key: dictionary, key, and the
            dotted key of the dictionary.

    Raises:
        UserError: there is no such key, and none may be added.
    """
    *parents, last = dotted.split(".")
    node: Any = root
    keys = []
    for depth, part in enumerate(parents):
        keys.append(_index(node, part, dotted, ".".join(parents[:depth])))
        node = node[keys[-1]]
    if isinstance(node, tuple):
        raise UserError(
            f"option {dotted}: {'.'.join(parents)} is a tuple; set it whole"
        )
    return [*keys, _index(node, last, dotted, ".".join(parents), may_add)]


# Words for a truth value that would be strings, of which all are true.
_NO_TRUTH = ("yes", "no", "on", "off", "y", "n", "")


def _set_dotted(root: ConfigDict, dotted: str, value: Any) -> None:
    *parents, key = find_option(root, dotted, _may_add)
    node: Any = root
    for part in parents:
        node = node[part]
    last = dotted.rpartition(".")[2]
    old = node[key] if not isinstance(node, dict) or key in node else None
    if isinstance(old, bool) and str(value).lower() in _NO_TRUTH:
        raise UserError(f"option {dotted}={value}: write True or False")
    if isinstance(value, dict) and isinstance(old, dict):
        value = _merge({last: value}, {last: old})[last]
    node[key] = ConfigDict(value) if isinstance(value, dict) else value


def _index(
    node: Any,
    part: str,
    dotted: str,
    where: str,
    may_add: Callable[[dict, str, str], bool] | None = None,
) -> str | int:
    """Return the key or position of one part of a dotted option, checked."""
    place = where or "the config"
    if isinstance(node, (list, tuple)):
        if part.isdigit() and int(part) < len(node):
            return int(part)
        kinds = [
            entry.get("type") if isinstance(entry, dict) else None for entry in node
        ]
        if kinds.count(part) == 1:
            return kinds.index(part)
        known = [kind for kind in kinds if kind]
        raise UserError(
            f"option {dotted}: {place} is a list of {len(node)}; give a position"
            + (f" or one's type{nearest_name(part, known)}" if known else "")
        )
    if not isinstance(node, dict):
        raise UserError(f"option {dotted}: {place} is {node!r}, which has no keys")
    if part in node or (may_add is not None and may_add(node, part, where)):
        return part
    known = {*node, *_accepted(node)[0]}
    raise UserError(
        f"option {dotted}: {place} has no key {part!r}{nearest_name(part, known)}"
    )


def _may_add(node: dict, part: str, where: str) -> bool:
    if not where and part in RUNTIME_KEYS:
        return True
    named, accepts_any = _accepted(node)
    return accepts_any or part in named


def _accepted(node: dict) -> tuple[dict[str, bool], bool]:
    """Return the options of the class that a dictionary would build."""
    kind = node.get("type")
    for value in vars(registries).values():
        if isinstance(value, Registry) and kind in value.module_dict:
            return accepted_keywords(value.module_dict[kind])
    return {}, False


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in seen:
        raise UserError(f"config {path}: _base_ leads back to it")
    if path.suffix != ".py":
        raise UserError(f"config {path}: a config is a Python file (.py)")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        asked = f", the base of {seen[-1].name}" if seen else ""
        raise UserError(
            f"config {path}{asked} cannot be read: {_reason(error)}"
        ) from None
    for name, value in (
        ("fileDirname", str(path.parent)),
        ("fileBasenameNoExtension", path.stem),
        ("fileBasename", path.name),
        ("fileExtname", path.suffix),
    ):
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", lambda _, v=value: v, text)

    references: dict[str, str] = {}

    def placeholder(match: re.Match) -> str:
        token = f"_base_reference_{len(references)}_"
        references[token] = match.group(1)
        return repr(token)

    text = re.sub(r"\{\{\s*_base_\.([\w.]+)\s*\}\}", placeholder, text)
    values = _execute(path, text)
    bases = values.pop(_BASE, [])
    base: dict[str, Any] = {}
    for name in [bases] if isinstance(bases, str) else bases:
        parent = _read((path.parent / name).resolve(), (*seen, path))
        double = sorted(base.keys() & parent.keys())
        if double:
            raise UserError(f"config {path}: two bases define {', '.join(double)}")
        base.update(parent)
    values = _resolve(values, references, base, path)
    try:
        return _merge(values, base)
    except TypeError as error:
        raise UserError(f"config {path}: {error}") from None


def _execute(path: Path, text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__file__": str(path), "__name__": path.stem}
    try:
        tree = ast.parse(text, str(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                node.module = _LISTS.get(node.module, node.module)
        exec(compile(tree, str(path), "exec"), namespace)
    except SyntaxError as error:
        raise UserError(f"config {path}, line {error.lineno}: {error.msg}") from None
    except UserError:
        raise
    except Exception as error:
        line = error.__traceback__.tb_next.tb_lineno if error.__traceback__ else 0
        raise UserError(
            f"config {path}, line {line}: {type(error).__name__}: {error}"
        ) from None
    hidden = (types.ModuleType, types.FunctionType, type)
    return {
        key: value
        for key, value in namespace.items()
        if not key.startswith("__") and not isinstance(value, hidden)
    }


def _resolve(value: Any, references: dict, base: dict, path: Path) -> Any:
    if isinstance(value, dict):
        return {k: _resolve(v, references, base, path) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(v, references, base, path) for v in value)
    if isinstance(value, str) and value in references:
        found: Any = base
        for part in references[value].split("."):
            if not isinstance(found, dict) or part not in found:
                known = found if isinstance(found, dict) else ()
                raise UserError(
                    f"config {path}: no base defines {references[value]!r}"
                    f"{nearest_name(part, known)}"
                )
            found = found[part]
        return copy.deepcopy(found)
    return value


def _merge(new: dict, old: dict) -> dict:
    """Merge ``new`` over ``old`` key by key; neither is changed."""
    merged = dict(old)
    for key, value in new.items():
        if isinstance(value, dict):
            value = dict(value)
            replace = value.pop(_DELETE, False) or key not in merged
            below = {} if replace else merged[key]
            if not isinstance(below, dict):
                raise TypeError(
                    f"{key} is a dictionary here but {below!r} in the base; "
                    f"add {_DELETE}=True to replace it"
                )
            value = _merge(value, below)
        merged[key] = value
    return merged


def import_modules(
    path: str | os.PathLike,
    imports: list[str] | str = (),
    allow_failed_imports: bool = False,
) -> None:
    """Import what the ``custom_imports`` of the config at ``path`` names.

    Raises:
        UserError: a module cannot be imported, and may not fail.
    """
    for name in [imports] if isinstance(imports, str) else imports:
        try:
            importlib.import_module(name)
        except ImportError as error:
            if not allow_failed_imports:
                raise UserError(
                    f"config {path}: custom_imports {name!r} failed: {error}"
                ) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class DictAction(argparse.Action):
    """Collect ``key=value`` words of a command line into a dictionary.

    Values are Python literals where they read as such; ``true``, ``false`` and
    ``none`` in any case; ``a,b`` is a list; anything else a string.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for word in values:
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise UserError(f"option {word!r}: write it as key=value")
            options[key] = parse_value(value)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Return the value an option's text stands for."""
    text = text.strip()
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
        bare = isinstance(value, tuple) and not text.startswith("(")
        return list(value) if bare else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    for opening, closing, kind in (("[", "]", list), ("(", ")", tuple)):
        if text.startswith(opening) and text.endswith(closing):
            inside = text[1:-1].strip()
            return kind(parse_value(part) for part in _split(inside) if part)
    parts = _split(text)
    return text if len(parts) == 1 else [parse_value(part) for part in parts]


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]
