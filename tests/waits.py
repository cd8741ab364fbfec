"""A pretended GPU: where would the host wait for the device?

Tensors of the pretended device (``Far``) hold a tensor of the CPU, on which they are
computed, but say that they lie elsewhere: their ``device`` is ``meta`` (which autograd
serves without threads of its own), ``is_cuda`` is true, so that code takes its branch
for GPUs, and they do not mix with tensors of the CPU. ``watch()`` records every
operation for which torch's CUDA kernels make the host wait, with the innermost function
of the package that asked for it, in the backward pass as well.

What is taken to wait, from reading torch's source (ATen/native), not from a run:

- a number or a list is read: ``item``, ``int``, ``float``, ``bool``, ``tolist``, a row
  chosen by a tensor without dimension;
- the shape of the result depends on values: ``nonzero``, ``masked_select``, rows chosen
  or set by a mask, ``unique``, ``bincount``, ``repeat_interleave`` without a size;
- ``equal``; what looks at the error code of a factorisation: ``inv``, ``solve``,
  ``eigh``, ``svd``, ``cholesky`` (not their ``_ex`` forms);
- copies between host and device, but those to the device from pinned memory with
  ``non_blocking=True``; ``torch.tensor(..., device=...)`` is such a copy.

What it cannot see: collectives of several processes; libraries that compute on CUDA by
kernels of their own (flash-attn); the caching allocator, which waits when memory runs
out; kernels that wait without the operation telling (none of those used is known to);
operations that torch fuses on CUDA alone. It measures no time.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import pointins_plugin

DEVICE = torch.device("meta")
PACKAGE = Path(pointins_plugin.__file__).parent
OUTSIDE = "outside the package"

# Names of operators (aten, without overload) that wait whatever their arguments are.
_ALWAYS = {
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "bincount",
    "histc",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "unique_dim_consecutive",
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_svd",
    "linalg_eig",
    "linalg_lstsq",
    "linalg_cholesky",
}
_BY_ROWS = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_ATTENTION_BY_PARTS = 0


class Far(Tensor):
    """A tensor of the pretended device; ``near`` is the tensor that it stands for."""

    is_cuda = True
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: Tensor):
        return Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=DEVICE,
        )

    def __init__(self, near: Tensor):
        self.near = near

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.to("cpu").tolist()

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **_: Any):
        return torch.tensor(data, dtype=dtype or self.dtype).to(DEVICE)

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Far({self.near!r})"


def far(value: Any) -> Any:
    """Return a batch, or a model changed in place, on the pretended device."""
    if not isinstance(value, nn.Module):
        return tree_map(lambda v: Far(v) if isinstance(v, Tensor) else v, value)
    moved: dict[int, nn.Parameter] = {}
    for module in value.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = moved.setdefault(
                    id(parameter),
                    nn.Parameter(Far(parameter.detach()), parameter.requires_grad),
                )
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Far(buffer)
    return value


def near(value: Any) -> Any:
    """Return tensors, or a tree of them, as they are on the CPU, without gradient."""
    return tree_map(lambda v: v.near if isinstance(v, Far) else v, value)


@contextmanager
def watch() -> Iterator[dict[str, Counter[str]]]:
    """Pretend a GPU inside; give {"file:function": what it waited for, how often}.

    Files count from the package; in a backward pass the function is the one that made
    the node of the graph, followed by `` (backward)``; what no function of the package
    asked for is ``OUTSIDE``.
    """
    found: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        for name in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):
            on_cpu = _knows_the_device(getattr(torch, name))
            stack.enter_context(mock.patch.object(torch, name, on_cpu))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", _pin))
        # Remembers where the nodes of the graph were made.
        stack.enter_context(torch.autograd.set_detect_anomaly(True, check_nan=False))
        for name in ("tensor", "as_tensor"):
            copied = _copies_literals(getattr(torch, name))
            stack.enter_context(mock.patch.object(torch, name, copied))
        stack.enter_context(_Watch(found))
        yield found


class _Watch(TorchDispatchMode):
    """Record what waits, and compute what belongs to the pretended device."""

    def __init__(self, found: dict[str, Counter[str]]):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        reason = _reason(func, args, kwargs)
        if reason is not None:
            self.found.setdefault(_site(), Counter())[reason] += 1
        return _compute(func, args, kwargs)


def _copies_literals(make: Callable) -> Callable:
    """Let numbers become tensors of the device as on CUDA: by a copy from the host.

    For a tensor of the device ``meta`` torch would leave the numbers out.
    """

    def function(data: Any, **kwargs: Any) -> Tensor:
        device = kwargs.pop("device", None)
        if device is None or torch.device(device) != DEVICE:
            return make(data, device=device, **kwargs)
        return make(data, **kwargs).to(DEVICE)

    return function


def _knows_the_device(autocast: Callable) -> Callable:
    """Let a function of mixed precision take the pretended device for the CPU."""

    def function(device_type: str, *args: Any, **kwargs: Any) -> Any:
        kind = "cpu" if device_type == DEVICE.type else device_type
        return autocast(kind, *args, **kwargs)

    return function


def _pin(values: Tensor, *args: Any) -> Tensor:
    pinned = values.clone()
    pinned._is_pinned = True
    return pinned


def _compute(func, args, kwargs):
    """Run an operation on what the pretended tensors stand for."""
    name = func.overloadpacket.__name__
    if name == "_fused_sdp_choice":
        return _ATTENTION_BY_PARTS
    flat, _ = tree_flatten((args, kwargs))
    owners = {id(value.near): value for value in flat if isinstance(value, Far)}
    device = kwargs.get("device")
    if device is not None:
        device = torch.device(device)
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if not owners and device != DEVICE:
        return func(*args, **kwargs)
    _refuse_mixed(func, name, flat, owners)
    own = {id(value) for value in flat if isinstance(value, Tensor)}

    def back(value):
        if not isinstance(value, Tensor) or id(value) in own:
            return value
        if id(value) in owners:  # changed in place
            return owners[id(value)]
        return Far(value) if device in (None, DEVICE) else value

    kwargs.pop("pin_memory", None)
    result = func(*near(args), **near(kwargs))
    if name == "_to_copy" and id(result) in owners:
        result = result.clone()
    return tree_map(back, result)


def _refuse_mixed(func, name, flat, owners) -> None:
    """Raise where CUDA would: tensors of both devices, but numbers of the CPU."""
    if not owners or name in ("copy_", "_to_copy") or name in _BY_ROWS:
        return
    for value in flat:
        if isinstance(value, Tensor) and not isinstance(value, Far) and value.dim():
            raise RuntimeError(
                f"{func}: tensors of the CPU and of the device are mixed"
            )


def _reason(func, args, kwargs) -> str | None:
    """Return why an operation makes the host wait, None where it does not."""
    name = func.overloadpacket.__name__
    flat, _ = tree_flatten((args, kwargs))
    if name in ("_to_copy", "copy_"):
        return _copy_reason(name, args, kwargs)
    if not any(isinstance(value, Far) for value in flat):
        return None
    if name in _ALWAYS:
        return name
    if name in _BY_ROWS:
        rows = [v for v in args[1] if v is not None]
        if any(v.dtype in _MASKS for v in rows):
            return "rows by a mask"
        if not all(isinstance(v, Far) for v in rows):
            return "copy to the device"
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        return "repeat_interleave without a size"
    return None


_MASKS = (torch.bool, torch.uint8)


def _copy_reason(name, args, kwargs) -> str | None:
    if name == "copy_":
        target, source = args[:2]
        there = isinstance(target, Far)
        non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    else:
        source = args[0]
        device = kwargs.get("device")
        there = isinstance(source, Far) if device is None else device == DEVICE
        non_blocking = kwargs.get("non_blocking", False)
    if there == isinstance(source, Far):
        return None
    if not there:
        return "copy to the host"
    if non_blocking and getattr(source, "_is_pinned", False):
        return None
    return "copy to the device"


def _site() -> str:
    """Return the innermost function of the package on the stack."""
    frame = sys._getframe(2)
    while frame is not None:
        site = _named(frame.f_code.co_filename, frame.f_code.co_name)
        if site:
            return site
        frame = frame.f_back
    node = torch._C._current_autograd_node()
    lines = [] if node is None else node.metadata.get("traceback_", [])
    for line in reversed(lines):
        head = line.strip().split("\n")[0]
        if head.startswith('File "') and ", in " in head:
            path, name = head[6:].split('"')[0], head.rsplit(", in ", 1)[1]
            site = _named(path, name)
            if site:
                return f"{site} (backward)"
    return OUTSIDE


def _named(path: str, name: str) -> str | None:
    path = Path(path)
    if PACKAGE not in path.parents:
        return None
    return f"{path.relative_to(PACKAGE).as_posix()}:{name}"
