"""Scalars of a run: kept in memory, and written where the user looks at them."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pointins_plugin.errors import UserError


class History:
    """The last value and the mean of one scalar since the last reset."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.val = math.nan
        self.total = 0.0
        self.count = 0

    def update(self, value: float, n: int = 1) -> None:
        """Add a value that stands for ``n`` samples."""
        self.val = value
        self.total += value * n
        self.count += n

    @property
    def latest(self) -> float:
        """The last value."""
        return self.val

    @property
    def avg(self) -> float:
        """The mean over all samples, nan of none."""
        return self.total / self.count if self.count else math.nan


class EventStorage:
    """Scalars by name, for the hooks of a trainer."""

    def __init__(self):
        self._histories: dict[str, History] = {}

    def __enter__(self) -> "EventStorage":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def put_scalar(self, name: str, value: float, n: int = 1) -> None:
        """Add a value of a scalar that stands for ``n`` samples."""
        self._histories.setdefault(name, History()).update(float(value), n)

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

    def state_dict(self) -> dict[str, list[float]]:
        """Return last value, sum and count of every scalar."""
        return {
            name: [history.val, history.total, history.count]
            for name, history in self._histories.items()
        }

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Take back what ``state_dict`` returned."""
        for name, (val, total, count) in state.items():
            history = self._histories.setdefault(name, History())
            history.val, history.total, history.count = val, total, int(count)

    def reset_histories(self) -> None:
        """Forget the values of all scalars."""
        for history in self._histories.values():
            history.reset()


class MetricsWriter:
    """Write scalars as lines of ``metrics.jsonl``, and to TensorBoard if installed.

    A line is ``{"step": 12, "tag": "train/loss", "value": 0.5}``; of several with one
    step and tag (a run that was resumed) the last one counts.

    Args:
        folder: of the run.
        resume: go on with the file that is there; a line cut by a kill is dropped.
        tensorboard: also write TensorBoard's files, where it is installed.
        wandb_run: also log to this run of Weights & Biases.
    """

    def __init__(
        self,
        folder: str,
        resume: bool = False,
        tensorboard: bool = True,
        wandb_run: Any = None,
    ):
        path = os.path.join(folder, "metrics.jsonl")
        if resume:
            _drop_cut_line(path)
        self._file: IO[str] = open(path, "a" if resume else "w", encoding="utf-8")
        self._board = _tensorboard(folder) if tensorboard else None
        self.has_tensorboard = self._board is not None
        self._wandb = wandb_run

    def add_scalar(self, tag: str, value: float, step: int | None = None) -> None:
        """Write one value; not finite ones as null, which JSON can hold."""
        value = float(value)
        line = {
            "step": step,
            "tag": tag,
            "value": value if math.isfinite(value) else None,
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.add_scalar(tag, value, step)
        if self._wandb is not None:
            # epochs and steps are counted apart, so each tag has its own axis
            axis = "Epoch" if tag.startswith(("train/", "val/")) else "Iter"
            self._wandb.log({axis: step, tag: value})

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def write_scalars(
    trainer: Any, scalars: Mapping[str, float], axis: str, place: int
) -> None:
    """Write scalars to wherever a run's go, on the main process.

    Args:
        trainer: of the run.
        scalars: by name, e.g. ``val/mIoU``.
        axis: what places count, ``"Epoch"`` or ``"Step"`` (of the optimizer).
        place: on that axis.
    """
    if trainer.writer is not None:
        for name, value in scalars.items():
            trainer.writer.add_scalar(name, value, place)


def start_wandb(cfg: Any) -> Any:
    """Start a run of Weights & Biases, named like the run's folder.

    Raises:
        UserError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise UserError(
            "config: enable_wandb=True needs wandb: pip install wandb, or set "
            "enable_wandb=False"
        ) from None
    group, name = Path(cfg.save_path).resolve().parts[-2:]
    run = wandb.init(
        project=cfg.get("wandb_project"),
        name=f"{group}/{name}",
        tags=[group],
        dir=cfg.save_path,
        settings=wandb.Settings(api_key=cfg.get("wandb_key")),
        config={key: cfg[key] for key in cfg if key != "wandb_key"},
    )
    for tags, axis in (
        ("params/*", "Iter"),
        ("train_batch/*", "Iter"),
        ("train/*", "Epoch"),
        ("val/*", "Epoch"),
    ):
        run.define_metric(tags, step_metric=axis)
    return run


def _drop_cut_line(path: str) -> None:
    if not os.path.isfile(path):
        return
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _tensorboard(folder: str) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
    return SummaryWriter(folder)
