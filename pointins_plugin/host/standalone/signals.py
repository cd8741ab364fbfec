"""Signals that ask a run to stop, noted until its step is finished."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

# SIGUSR1 is not everywhere
STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


def exit_code(number: int) -> int:
    """Return what a process ends with that a signal has stopped, as shells have it."""
    return 128 + number


STOP_CODES = [exit_code(number) for number in STOP_SIGNALS]


class StopSignals:
    """Context in which SIGTERM and SIGUSR1 are noted instead of obeyed.

    Schedulers of clusters send them some time before they kill. Outside the main
    thread, where Python allows no handlers, nothing is noted.

    Args:
        forward: processes that are sent the same signals.

    Attributes:
        number: of the last signal, or None.
    """

    def __init__(self, forward: Sequence[int] = ()):
        self.forward = forward
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: Any) -> None:
        self.number = number
        for process in self.forward:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def outlive_stop_signals(worker: int) -> None:
    """Let a loader's process go on when SIGTERM or SIGUSR1 reaches a run's whole group.

    ``timeout`` and clusters send them to every process, and the step that is finished
    needs its batch. The parent's SIGTERM still ends it, by which Python and torch clean
    up; where the parent dies, torch's watchdog does.
    """
    for number in STOP_SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(signal, "sigwaitinfo"):  # macOS, Windows
        return

    def obey_parent() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
            pass
        os._exit(0)

    # a handler is not told who has sent a signal; one that waits for it is
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=obey_parent, daemon=True).start()
