"""Reading pickles that somebody else wrote: plain values only, nothing is run.

NumPy's own way of loading an array trusts the file: flags of a dtype decide whether
bytes are taken for pointers. So dtypes are rebuilt here from their names, and an array
gets its bytes only when they fit.
"""

import contextlib
import io
import math
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pointins_plugin.errors import UserError

_NUMBERS_AND_TEXT = re.compile(r"[biufcSUV]\d+|\?")
_ORDERS = ("<", ">", "|", "=")
# what stands for numpy.ndarray in a file; it cannot be called
_NDARRAY = object()


def _refuse(why: str) -> None:
    raise pickle.UnpicklingError(why)


class _Dtype:
    """What a file says of a dtype, before it is believed."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        if not isinstance(code, str) or not _NUMBERS_AND_TEXT.fullmatch(code):
            _refuse(f"it holds an array of {code!r}, not of numbers or text")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order, sub, names, fields, size = state[1:6]
        if order not in _ORDERS:
            _refuse(f"it holds a dtype of byte order {order!r}")
        if sub is not None:
            self.dtype = np.dtype((_real(sub[0]), sub[1]))
        elif names is not None:
            columns = {
                "names": list(names),
                "formats": [_real(fields[name][0]) for name in names],
                "offsets": [fields[name][1] for name in names],
                "itemsize": size,
            }
            self.dtype = np.dtype(columns)
        elif order in "<>":
            self.dtype = self.dtype.newbyteorder(order)


def _real(value: Any) -> np.dtype:
    if not isinstance(value, _Dtype):
        _refuse("it holds an array without a dtype")
    return value.dtype


class _Array(np.ndarray):
    """An array that checks what a file puts into it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, data = state
        dtype = _real(kind)
        size = math.prod(shape) * dtype.itemsize
        if not isinstance(data, bytes) or len(data) != size:
            _refuse("it holds an array whose bytes do not fit its shape")
        super().__setstate__((1, shape, dtype, bool(fortran), data))


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind is not _NDARRAY:
        _refuse("it holds a kind of array that is not NumPy's own")
    return np.ndarray.__new__(_Array, (0,))


def _scalar(kind: Any, data: Any = b"") -> Any:
    dtype = _real(kind)
    if not isinstance(data, bytes) or len(data) != dtype.itemsize:
        _refuse("it holds a number whose bytes do not fit its dtype")
    return np.ndarray((), dtype, data)[()] if data else dtype.type()


def _from_buffer(
    data: Any, kind: Any, shape: Any, order: Any, axes: Any = None
) -> np.ndarray:
    """Return an array of protocol 5; ``axes`` is the order of its axes in memory."""
    flat = np.frombuffer(data, _real(kind))
    if axes is not None:
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order=order)


def _bytes_of_text(text: Any, encoding: Any) -> bytes:
    """Stand in for ``_codecs.encode``, by which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        _refuse("it holds encoded text that is no bytes")
    return text.encode("latin1")


def _no_bytes(*anything: Any) -> bytes:
    """Stand in for ``bytes``, by which protocol 2 writes none."""
    if anything:
        _refuse("it holds bytes made of something else")
    return b""


def _bytearray(data: Any = b"", encoding: Any = None) -> bytearray:
    if encoding is not None:
        data = _bytes_of_text(data, encoding)
    if not isinstance(data, bytes):
        _refuse("it holds a bytearray made of no bytes")
    return bytearray(data)


# What files of Python 2 and 3 and of NumPy 1 and 2 call the same harmless things.
_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _bytes_of_text,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    **{
        (module, name): value
        for module in ("builtins", "__builtin__")
        for name, value in (
            ("set", set),
            ("frozenset", frozenset),
            ("complex", complex),
            ("bytes", _no_bytes),
            ("bytearray", _bytearray),
        )
    },
    **{
        (f"numpy.{core}.{part}", name): value
        for core in ("core", "_core")
        for part, name, value in (
            ("multiarray", "_reconstruct", _empty_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            _refuse(f"it asks for {module}.{name}, which is no plain value")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        _refuse("it refers to something outside the file")


_LEAVES = frozenset((str, int, float, bool, bytes, type(None)))


def plain(value: Any, seen: set[int] | None = None) -> Any:
    """Return what a file held with stand-ins replaced, containers in place.

    Raises:
        pickle.UnpicklingError: it holds a function.
    """
    seen = set() if seen is None else seen
    if isinstance(value, _Array):
        return value.view(np.ndarray)
    if isinstance(value, _Dtype):
        return value.dtype
    if value is _NDARRAY or callable(value):
        _refuse("it holds a function, which is no plain value")
    if isinstance(value, tuple):
        return tuple(plain(item, seen) for item in value)
    if isinstance(value, (list, dict)) and id(value) not in seen:
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if type(item) not in _LEAVES:
                value[key] = plain(item, seen)
    return value


def torch_globals() -> list[tuple[Any, str]]:
    """Return what lets ``torch.load(weights_only=True)`` read arrays as they are here.

    For ``torch_allows``; what was read then goes through ``plain``.
    """
    named = [(value, f"{module}.{name}") for (module, name), value in _ALLOWED.items()]
    # These two may be given a state. Without a dot no file can name them.
    return [*named, (_Array, "array"), (_Dtype, "dtype")]


def torch_allows(kinds: list) -> contextlib.AbstractContextManager:
    """Let ``torch.load(weights_only=True)`` read more kinds of values.

    Args:
        kinds: as ``torch.serialization.safe_globals`` takes them; where torch is older
            than that, 2.5, it reads none of them.
    """
    import torch  # pickles alone are read without it

    if not hasattr(torch.serialization, "safe_globals"):
        return contextlib.nullcontext()
    return torch.serialization.safe_globals(kinds)


def _load(file: BinaryIO) -> Any:
    try:
        return plain(_PlainUnpickler(file).load())
    except (pickle.UnpicklingError, OSError):
        raise
    except Exception as error:  # damaged bytes fail in as many ways as there are codes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise pickle.UnpicklingError(f"it is damaged ({reason})") from None


def loads_plain(data: bytes) -> Any:
    """Read a pickle as ``load_plain`` does.

    Raises:
        pickle.UnpicklingError: the bytes are damaged or hold anything else.
    """
    return _load(io.BytesIO(data))


def load_plain(path: str | Path, what: str = "file") -> Any:
    """Read a pickle of containers, numbers, text and arrays of these.

    Args:
        path: the file.
        what: its role, for the message ("info file").

    Returns:
        Python's own containers and values, and plain NumPy arrays and scalars.

    Raises:
        UserError: it is missing, damaged or holds anything else, arrays of Python
            objects included.
    """
    try:
        with open(path, "rb") as file:
            return _load(file)
    except OSError as error:
        raise UserError(
            f"{what} {path} cannot be read ({error.strerror or error})"
        ) from None
    except pickle.UnpicklingError as error:
        raise UserError(f"{what} {path} is refused: {error}") from None
