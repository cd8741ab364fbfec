"""Memory that a call needs at its peak."""

import ctypes
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def peak_mib(function: Callable[[], Any]) -> float:
    """Return by how much a call raises the resident memory of a fork, MiB (Linux)."""
    context = get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(function, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def _measure(function: Callable[[], Any], send: Any) -> None:
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would be used unseen
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # peak := now
    before = _status("VmRSS")
    function()
    send.send((_status("VmHWM") - before) / 1024)
    send.close()
    os._exit(0)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)
