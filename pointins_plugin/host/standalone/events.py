"""Scalars of a run: kept in memory, written as JSON lines and to TensorBoard."""

import json
import math
import os
from typing import IO, Any


class History:
    """The values of one scalar since the last reset."""

    def __init__(self):
        self.values: list[float] = []

    def update(self, value: float) -> None:
        """Add a value."""
        self.values.append(value)

    @property
    def latest(self) -> float:
        """The last value."""
        return self.values[-1]

    @property
    def avg(self) -> float:
        """The mean of all values."""
        return sum(self.values) / len(self.values) if self.values else math.nan


class EventStorage:
    """Scalars by name, for the hooks of a trainer."""

    def __init__(self):
        self._histories: dict[str, History] = {}

    def __enter__(self) -> "EventStorage":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def put_scalar(self, name: str, value: float) -> None:
        """Add a value of a scalar."""
        self._histories.setdefault(name, History()).update(float(value))

    def put_scalars(self, **values: float) -> None:
        """Add a value of each of several scalars."""
        for name, value in values.items():
            self.put_scalar(name, value)

    def history(self, name: str) -> History:
        """Return the values of a scalar.

        Raises:
            KeyError: nothing was put under the name.
        """
        return self._histories[name]

    def histories(self) -> dict[str, History]:
        """Return all scalars."""
        return self._histories

    def reset_histories(self) -> None:
        """Forget all values."""
        self._histories = {}


class MetricsWriter:
    """Write scalars as lines of ``metrics.jsonl``, and to TensorBoard if installed.

    A line is ``{"step": 12, "tag": "train/loss", "value": 0.5}``; of several with one
    step and tag (a run that was resumed) the last one counts.
    """

    def __init__(self, folder: str, tensorboard: bool = True):
        self._file: IO[str] = open(
            os.path.join(folder, "metrics.jsonl"), "a", encoding="utf-8"
        )
        self._board = _tensorboard(folder) if tensorboard else None

    def add_scalar(self, tag: str, value: float, step: int | None = None) -> None:
        """Write one value; not finite ones as null, which JSON can hold."""
        value = float(value)
        line = {"step": step, "tag": tag, "value": value if math.isfinite(value) else None}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.add_scalar(tag, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _tensorboard(folder: str) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder)
