"""What evaluators share: when they run, over which batches, and their report."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.files import write_report
from pointins_plugin.host import HookBase, batch_to, comm, in_evaluation, write_scalars


class ValidationHook(HookBase):
    """Evaluate the model on the validation data after epochs, and write a JSON.

    Args:
        every: epochs between two evaluations; 0 evaluates at the end only.
        filename: of the report, in the run's folder: the last result, and the result
            of every evaluation of the run under ``history``. One of an earlier run is
            removed where this one does not resume.

    A subclass says what is measured: ``measure`` returns the result, ``metric`` the
    name and value that ``CheckpointSaver`` compares. Nothing is evaluated where the
    config says ``evaluate=False``.
    """

    def __init__(self, every: int = 1, filename: str = "validation.json"):
        if every < 0:
            raise UserError(f"{type(self).__name__}: every={every}; give 0 or more")
        self.every = every
        self.filename = filename
        self.history: list[dict[str, Any]] = []

    def before_train(self) -> None:
        trainer = self.trainer
        if not trainer.cfg.resume and comm.is_main_process():
            # of an earlier run in this folder, not of this one
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._path())
        if not trainer.cfg.evaluate:
            return
        if trainer.val_loader is None:
            raise UserError(
                f"{type(self).__name__}: there is no validation data; set data.val in "
                "the config"
            )
        if trainer.cfg.resume:
            self.history = self._written_history()

    def after_epoch(self) -> None:
        last = self.trainer.epoch + 1 == self.trainer.max_epoch
        due = self.every and (self.trainer.epoch + 1) % self.every == 0
        if self.trainer.cfg.evaluate and (due or last):
            self.evaluate()

    def evaluate(self) -> dict[str, Any]:
        """Evaluate now and return (on the main process, or {}) what is written."""
        trainer = self.trainer
        model = trainer.model
        was_training = model.training
        model.eval()
        try:
            result = self.measure(model)
        finally:
            model.train(was_training)
        name, value = self.metric(result)
        trainer.comm_info["current_metric_name"] = name
        trainer.comm_info["current_metric_value"] = value
        result = {"epoch": trainer.epoch + 1, "seed": trainer.cfg.seed, **result}
        self.history = [
            *(entry for entry in self.history if entry["epoch"] < result["epoch"]),
            {k: v for k, v in result.items() if not isinstance(v, (dict, list))},
        ]
        if not comm.is_main_process():
            return {}
        self.log(result)
        self._write(result)
        return result

    def measure(self, model: Any) -> dict[str, Any]:
        """Return the result of the model, which is in evaluation mode."""
        raise NotImplementedError

    def metric(self, result: dict[str, Any]) -> tuple[str, float]:
        """Return the name and value by which the best checkpoint is chosen."""
        raise NotImplementedError

    def log(self, result: dict[str, Any]) -> None:
        """Log a result and write its scalars."""
        raise NotImplementedError

    @torch.no_grad()
    def outputs(self, model: Any) -> Iterator[tuple[dict, dict, int]]:
        """Yield validation batches, what the model returns, and how many clouds count.

        Batches are on the model's device. Samplers repeat scenes so that all processes
        have equally many: the clouds behind those that count are such.
        """
        device = next(model.parameters()).device
        left = self._own_scenes()
        for batch in self.trainer.val_loader:
            batch = batch_to(batch, device)
            # Models may change the dictionary they are given.
            output = in_evaluation(model, dict(batch))
            count = min(len(batch["offset"]), left)
            left -= count
            if count:
                yield batch, output, count

    def _own_scenes(self) -> int:
        """Return how many scenes this process has before the sampler repeats some."""
        world_size = comm.get_world_size()
        if world_size == 1:
            return sys.maxsize
        size = len(self.trainer.val_loader.dataset)
        return len(range(comm.get_rank(), size, world_size))

    def mean_loss(self, losses: list[float]) -> float:
        """Return the mean of the batches' losses over all processes, NaN of none."""
        every = [loss for part in comm.all_gather(losses) for loss in part]
        return float(np.mean(every)) if every else float("nan")

    def write_scalars(self, scalars: dict[str, float], epoch: int) -> None:
        """Write scalars to the run's metrics."""
        known = {f"val/{k}": v for k, v in scalars.items() if not math.isnan(v)}
        write_scalars(self.trainer, known, "Epoch", epoch)

    def _path(self) -> str:
        return os.path.join(self.trainer.cfg.save_path, self.filename)

    def _written_history(self) -> list[dict[str, Any]]:
        try:
            with open(self._path(), encoding="utf-8") as file:
                return list(json.load(file)["history"])
        except (OSError, ValueError, KeyError, TypeError):
            return []  # evaluated for the first time, or damaged: start anew

    def _write(self, result: dict[str, Any]) -> None:
        write_report(self._path(), {**result, "history": self.history})
