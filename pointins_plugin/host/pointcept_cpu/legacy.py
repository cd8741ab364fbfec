"""Calls that Pointcept makes and newer or CPU-only libraries lack."""

import contextlib
import functools

import numpy as np
import torch

from .patches import replace

# The operators that torchvision decorates while it is imported.
_TORCHVISION = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library = None


def install() -> None:
    """Put back ``np.in1d``; count integers by ``torch.histc``; declare operators."""
    global _library
    if not hasattr(np, "in1d"):  # gone in NumPy 2.4
        replace(np, "in1d", in1d)
    replace(torch, "histc", _histc_of_integers(torch.histc))
    # torchvision's default wheel does not load its operators beside a CPU-only torch
    # and then fails at import, where it names them.
    if _library is not None:
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _TORCHVISION:
        with contextlib.suppress(RuntimeError):  # declared by torchvision itself
            _library.define(schema)


def in1d(ar1, ar2, assume_unique=False, invert=False):
    """Do what ``np.in1d`` did, which NumPy 2.4 no longer has."""
    return np.isin(np.ravel(ar1), ar2, assume_unique=assume_unique, invert=invert)


def _histc_of_integers(histc):
    @functools.wraps(histc)
    def count(input, bins=100, min=0, max=0):
        if input.is_floating_point() or input.is_cuda:
            return histc(input, bins=bins, min=min, max=max)
        counts = histc(input.double(), bins=bins, min=min, max=max)
        return counts.to(input.dtype)

    return count
