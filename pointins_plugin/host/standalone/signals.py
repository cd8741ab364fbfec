"""Signals that ask a run to stop, noted until its step is finished."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

# SIGUSR1 is not everywhere
STOP_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGUSR1", "SIGINT")
    if hasattr(signal, name)
]
# A terminal sends Ctrl-C to all processes of a run, and launchers pass it on to theirs.
_ONE_PRESS = 1.0  # seconds


def exit_code(number: int) -> int:
    """Return what a process ends with that a signal has stopped, as shells have it."""
    return 128 + number


STOP_CODES = [exit_code(number) for number in STOP_SIGNALS]


class StopSignals:
    """Context in which SIGTERM, SIGUSR1 and SIGINT are noted instead of obeyed.

    Schedulers of clusters send the first two some time before they kill, terminals the
    last on Ctrl-C; a second one, a second later or more, is obeyed. Outside the main
    thread, where Python allows no handlers, nothing is noted, and where SIGINT is
    ignored (in the background of a script) it stays so.

    Args:
        forward: processes that are sent the same signals.
        notice: what stderr is told on the first SIGINT; None tells nothing.

    Attributes:
        number: of the last signal, or None.
    """

    def __init__(self, forward: Sequence[int] = (), notice: str | None = None):
        self.forward = forward
        self.notice = notice
        self.number: int | None = None
        self._pressed: float | None = None  # when SIGINT came first
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                ignored = signal.getsignal(number) is signal.SIG_IGN
                if number != signal.SIGINT or not ignored:
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
        if number == signal.SIGINT:
            self._note_press(frame)

    def _note_press(self, frame: Any) -> None:
        now = time.monotonic()
        if self._pressed is None:
            self._pressed = now
            if self.notice is not None:  # print could be interrupted by itself
                with contextlib.suppress(OSError):
                    os.write(2, f"\npointins: {self.notice}\n".encode())
        elif now - self._pressed >= _ONE_PRESS:
            before = self._before.get(signal.SIGINT)
            obey = before if callable(before) else signal.default_int_handler
            obey(signal.SIGINT, frame)


def outlive_stop_signals(worker: int) -> None:
    """Let a loader's process go on when a stop signal reaches a run's whole group.

    ``timeout``, clusters and terminals send them to every process, and the step that is
    finished needs its batch. The parent's SIGTERM still ends it, by which Python and
    torch clean up; where the parent dies, torch's watchdog does.
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
