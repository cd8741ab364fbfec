"""Hooks: what happens around epochs and steps."""

import math
import os
import re
import time
from collections import Counter
from typing import Any

import torch

from pointins_plugin.errors import UserError

from . import comm
from .checkpoint import (
    copy_checkpoint,
    load_checkpoint,
    match_weights,
    save_checkpoint,
)
from .registry import HOOKS
from .scheduler import CosineScheduler


class HookBase:
    """A part of a run; ``trainer`` is set when it is registered."""

    trainer: Any = None

    def before_train(self) -> None:
        """Called once, before the first step."""

    def before_epoch(self) -> None:
        """Called before the first step of an epoch."""

    def before_step(self) -> None:
        """Called before every micro-batch."""

    def after_step(self) -> None:
        """Called after every micro-batch."""

    def after_epoch(self) -> None:
        """Called after the last step of an epoch."""

    def after_train(self) -> None:
        """Called once, after the last step."""


def build_hooks(cfg: list[dict]) -> list[HookBase]:
    """Build hooks in order."""
    return [HOOKS.build(entry) for entry in cfg]


@HOOKS.register_module()
class ModelHook(HookBase):
    """Forward every event to the model, with ``model.trainer`` set.

    Put it after ``CheckpointLoader``: a model's ``before_train`` may need what was
    loaded. A model that is no ``HookBase`` takes no events and is left alone.
    """

    def before_train(self) -> None:
        self._forward("before_train")

    def before_epoch(self) -> None:
        self._forward("before_epoch")

    def before_step(self) -> None:
        self._forward("before_step")

    def after_step(self) -> None:
        self._forward("after_step")

    def after_epoch(self) -> None:
        self._forward("after_epoch")

    def after_train(self) -> None:
        self._forward("after_train")

    def _forward(self, event: str) -> None:
        model = comm.unwrapped(self.trainer.model)
        if not isinstance(model, HookBase):
            return
        model.trainer = self.trainer
        getattr(model, event)()


# scalars of IterationTimer
TIMERS = ("data_time", "batch_time")


@HOOKS.register_module()
class IterationTimer(HookBase):
    """Time data and steps, and estimate what is left.

    Args:
        warmup_iter: first steps that the estimate leaves out.
    """

    def __init__(self, warmup_iter: int = 1):
        self.warmup_iter = warmup_iter

    def before_train(self) -> None:
        trainer = self.trainer
        steps = trainer.max_epoch * len(trainer.train_loader)
        self._left = steps - trainer.start_step
        self._step = 0
        self._timed = 0
        self._total = 0.0

    def before_epoch(self) -> None:
        self._start = time.perf_counter()

    def before_step(self) -> None:
        data_time = time.perf_counter() - self._start
        self.trainer.storage.put_scalar("data_time", data_time)

    def after_step(self) -> None:
        now = time.perf_counter()
        batch_time = now - self._start
        self._start = now
        self._step += 1
        self._left -= 1
        if self._step > self.warmup_iter:
            self._timed += 1
            self._total += batch_time
        storage = self.trainer.storage
        storage.put_scalar("batch_time", batch_time)
        mean = self._total / self._timed if self._timed else batch_time
        data_time = storage.history("data_time").latest
        self.trainer.comm_info["remaining_seconds"] = mean * self._left
        self.trainer.comm_info["iter_info"] = (
            f"Train: [{self.trainer.epoch + 1}/{self.trainer.max_epoch}]"
            f"[{self.trainer.comm_info['iter'] + 1}/{len(self.trainer.train_loader)}] "
            f"Data {data_time:.3f} Batch {batch_time:.3f} "
            f"Remain {format_seconds(mean * self._left)} "
        )


def format_seconds(seconds: float) -> str:
    """Return ``hh:mm:ss``."""
    seconds = int(seconds)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


# in a row, before mixed precision is taken not to recover
_SKIPPED_STEPS = 20


@HOOKS.register_module()
class InformationWriter(HookBase):
    """Log every scalar that the model returns, and write it to the metrics.

    Args:
        log_interval: steps between two lines of the log; metrics hold every step.

    A loss that is not finite ends the run with the next step, on all ranks. A loss
    scaler leaves out such steps, so that with one it takes 20 in a row.

    Raises:
        UserError: ``log_interval`` is below 1.
    """

    def __init__(self, log_interval: int = 1):
        if log_interval < 1:
            raise UserError(
                f"InformationWriter: log_interval={log_interval}; give 1 or more steps"
            )
        self.log_interval = log_interval
        self._not_finite = 0

    def before_train(self) -> None:
        self._step = self.trainer.start_step
        self.trainer.comm_info.setdefault("iter_info", "")
        # a run resumed after the last step of an epoch has only its means to tell
        self._names = [
            name
            for name, history in self.trainer.storage.histories().items()
            if history.count and name not in TIMERS
        ]

    def after_step(self) -> None:
        trainer = self.trainer
        self._step += 1
        output = {
            name: value.item() if isinstance(value, torch.Tensor) else float(value)
            for name, value in trainer.comm_info["model_output_dict"].items()
        }
        self._watch(output.get("loss", 0.0))
        self._names = list(output)
        rate = trainer.optimizer.param_groups[0]["lr"]
        trainer.storage.put_scalars(**output)
        if trainer.writer is not None:
            trainer.writer.add_scalar("params/lr", rate, self._step)
            for name, value in output.items():
                trainer.writer.add_scalar(f"train_batch/{name}", value, self._step)
        if self._step % self.log_interval == 0:
            parts = [f"{name}: {value:.4f}" for name, value in output.items()]
            info = trainer.comm_info["iter_info"] or "Train: "
            trainer.logger.info(info + " ".join([*parts, f"Lr: {rate:.5f}"]))

    def _watch(self, loss: float) -> None:
        self._not_finite = 0 if math.isfinite(loss) else self._not_finite + 1
        most = 1 if self.trainer.scaler is None else _SKIPPED_STEPS
        if self._not_finite == most:
            self.trainer.diverged = f"the loss of step {self._step} is {loss}"

    def after_epoch(self) -> None:
        trainer = self.trainer
        means = {name: trainer.storage.history(name).avg for name in self._names}
        parts = [f"{name}: {value:.4f}" for name, value in means.items()]
        trainer.logger.info(
            " ".join([f"Train result of epoch {trainer.epoch + 1}:", *parts])
        )
        if trainer.writer is not None:
            for name, value in means.items():
                trainer.writer.add_scalar(f"train/{name}", value, trainer.epoch + 1)


@HOOKS.register_module()
class WeightDecaySchedular(HookBase):  # the spelling is Pointcept's
    """Move the weight decay of all groups along half a cosine of optimizer steps.

    Micro-batches of gradient accumulation do not count, so that the end is reached at
    the end of the run and not before.

    Args:
        base_value: at the start.
        final_value: at the end.
    """

    def __init__(self, base_value: float = 0.04, final_value: float = 0.2):
        self.base_value = base_value
        self.final_value = final_value

    def before_train(self) -> None:
        self.scheduler = CosineScheduler(
            base_value=self.base_value,
            final_value=self.final_value,
            total_iters=self.trainer.cfg.scheduler.total_steps,
        )

    def before_step(self) -> None:
        step = self.trainer.scheduler.last_epoch
        value = float(self.scheduler.get(step))
        for group in self.trainer.optimizer.param_groups:
            group["weight_decay"] = value
        if self.trainer.writer is not None:
            self.trainer.writer.add_scalar("params/wd", value, step + 1)


@HOOKS.register_module()
class CheckpointSaver(HookBase):
    """Save ``model/model_last.pth`` after every epoch, and the best by evaluation.

    When a signal stops the run (SIGTERM, SIGUSR1: a scheduler's warnings; SIGINT:
    Ctrl-C), the step that it finishes is saved too, so that ``-r true`` goes on with
    the next one.
    A run that begins anew removes the best and the kept checkpoints of an earlier one
    in its folder; what it begins with itself goes when its own is first saved.

    Args:
        save_freq: also keep ``epoch_K.pth`` every so many epochs; None keeps none.
        save_every_steps: also save within an epoch, every so many batches; None does
            not.
        save_every_minutes: also save within an epoch when the last save is so long ago,
            by the clock of the main process; None does not. A run that is killed
            without warning loses no more.

    Raises:
        UserError: weights are not finite, in training, on all ranks; the checkpoint
            that is there stays.
    """

    def __init__(
        self,
        save_freq: int | None = None,
        save_every_steps: int | None = None,
        save_every_minutes: float | None = 10.0,
    ):
        if save_every_steps is not None and save_every_steps < 1:
            raise UserError(
                f"config: CheckpointSaver save_every_steps={save_every_steps} is no "
                "positive integer"
            )
        if save_every_minutes is not None and not save_every_minutes > 0:
            raise UserError(
                f"config: CheckpointSaver save_every_minutes={save_every_minutes} is "
                "no positive number"
            )
        self.save_freq = save_freq
        self.save_every_steps = save_every_steps
        self.save_every_minutes = save_every_minutes
        self._saved_at = 0.0  # by the clock
        self._earlier: list[str] = []  # checkpoints of an earlier run

    def before_train(self) -> None:
        self._saved_at = time.monotonic()
        cfg = self.trainer.cfg
        if cfg.resume or not comm.is_main_process():
            return
        folder = os.path.join(cfg.save_path, "model")
        # taken for this run's by tests of its best
        self._earlier = [
            os.path.join(folder, name)
            for name in os.listdir(folder)
            if re.fullmatch(r"model_best\.pth|epoch_\d+\.pth", name)
        ]
        self._remove_earlier(keep=cfg.weight)

    def _remove_earlier(self, keep: str | None = None) -> None:
        kept = [path for path in self._earlier if keep and _same_place(path, keep)]
        for path in self._earlier:
            if path not in kept:
                os.remove(path)
        self._earlier = kept

    def before_step(self) -> None:
        minutes = self.save_every_minutes
        if minutes is not None and comm.is_main_process():
            spent = (time.monotonic() - self._saved_at) / 60
            self.trainer.save_due |= spent >= minutes

    def after_step(self) -> None:
        trainer = self.trainer
        done = trainer.comm_info["iter"] + 1
        due = self.save_every_steps and done % self.save_every_steps == 0
        due = due or trainer.save_due
        # after the last step of an epoch comes its evaluation, and then after_epoch
        due = due and done < len(trainer.train_loader)
        if not (due or trainer.stopping):
            return
        self._refuse_broken()
        path = self._save(trainer.epoch)
        trainer.logger.info(
            f"Saved {path} in epoch {trainer.epoch + 1} after step {done}"
        )

    def after_epoch(self) -> None:
        self._refuse_broken()
        trainer = self.trainer
        is_best = comm.is_main_process() and self._compare()
        epoch = trainer.epoch + 1
        path = self._save(epoch)
        if not comm.is_main_process():
            return
        trainer.logger.info(f"Saved {path} after epoch {epoch}")
        folder = os.path.dirname(path)
        if is_best:
            copy_checkpoint(path, os.path.join(folder, "model_best.pth"))
        if self.save_freq and epoch % self.save_freq == 0:
            copy_checkpoint(path, os.path.join(folder, f"epoch_{epoch}.pth"))

    def _refuse_broken(self) -> None:
        """A gradient that is not finite breaks the weights before any loss shows it."""
        model = self.trainer.model
        # infinite buffers may be meant (masks); statistics that are NaN stay so
        broken = not (
            all(bool(value.isfinite().all()) for value in model.parameters())
            and not any(bool(value.isnan().any()) for value in model.buffers())
        )
        # Statistics differ between ranks; one that stopped alone would hang the rest.
        if comm.largest(int(broken)):
            step = self.trainer.comm_info.get("iter", -1) + 1
            self.trainer.end_diverged(
                f"after step {step} of epoch {self.trainer.epoch + 1} weights are not "
                "finite, and are not saved"
            )

    def _save(self, epoch: int) -> str:
        """Write the last checkpoint on the main process; all call it."""
        trainer = self.trainer
        path = os.path.join(trainer.cfg.save_path, "model", "model_last.pth")
        progress = trainer.progress()
        if not comm.is_main_process():
            return path
        state = {
            "epoch": epoch,
            "state_dict": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": _plain_state(trainer.scheduler.state_dict()),
            "scaler": trainer.scaler.state_dict() if trainer.scaler else None,
            "best_metric_value": float(trainer.best_metric_value),
            "pointins": progress,
        }
        save_checkpoint(state, path)
        self._saved_at = time.monotonic()
        self._remove_earlier()
        return path

    def _compare(self) -> bool:
        trainer = self.trainer
        info = trainer.comm_info
        if not trainer.cfg.evaluate or "current_metric_value" not in info:
            return False
        value = info["current_metric_value"]
        is_best = value > trainer.best_metric_value
        if is_best:
            trainer.best_metric_value = value
        trainer.logger.info(
            f"Best {info['current_metric_name']}: {trainer.best_metric_value:.4f}"
            + (" (now)" if is_best else "")
        )
        return is_best


def _same_place(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out what ``weights_only`` may refuse and rebuilding brings back."""
    return {
        key: value
        for key, value in state.items()
        if not callable(value) and not isinstance(value, Counter)
    }


@HOOKS.register_module()
class CheckpointLoader(HookBase):
    """Load weights before training, or everything when the run resumes.

    The share of matched keys is logged. Too few are an error, because a model that
    trains from a checkpoint it did not read looks like one that did. A teacher that the
    checkpoint lacks starts as its student. A resumed run needs every key, and without
    ``weight`` takes the last checkpoint of its folder.

    Args:
        keywords: part of a key to replace, e.g. ``"module.student.backbone"``.
        replacement: its replacement, e.g. ``"module.backbone"``.
        strict: every key of model and checkpoint must match.
        min_matched: least share of the model's keys (where keywords are given, of
            those that start with the replacement) to be found with their shape.
        allow_partial: train on whatever was matched.
    """

    def __init__(
        self,
        keywords: str = "",
        replacement: str | None = None,
        strict: bool = False,
        min_matched: float = 0.9,
        allow_partial: bool = False,
    ):
        self.keywords = keywords
        self.replacement = keywords if replacement is None else replacement
        self.strict = strict
        self.min_matched = min_matched
        self.allow_partial = allow_partial

    def before_train(self) -> None:
        trainer = self.trainer
        resume = bool(trainer.cfg.resume)
        path = trainer.cfg.weight
        if not path and resume:
            path = os.path.join(trainer.cfg.save_path, "model", "model_last.pth")
        if not path:
            trainer.logger.info("No weight given: training from scratch")
            return
        checkpoint = load_checkpoint(path)
        match = match_weights(
            checkpoint["state_dict"],
            trainer.model.state_dict(),
            "" if resume else self.keywords,
            "" if resume else self.replacement,
            wrapped=comm.get_world_size() > 1,
            copy_student=not (resume or self.strict),
        )
        if resume or self.strict:
            odd = match.missing + match.unexpected
            if odd:
                raise UserError(
                    f"checkpoint {path}: {match}, all are needed, and no others (first "
                    f"without a match: {odd[0]}); use the config it was trained with"
                )
        elif match.share < self.min_matched and not self.allow_partial:
            first = [key for key in match.missing if key.startswith(match.prefix)]
            raise UserError(
                f"checkpoint {path}: {match}, {self.min_matched:.0%} are needed (first "
                f"missing: {first[0] if first else match.prefix}); check keywords and "
                "the config, or set CheckpointLoader(allow_partial=True)"
            )
        trainer.logger.info(f"Loaded {path}: {match}")
        if match.copied:
            trainer.logger.info(
                f"It brings no teacher: {match.copied} keys are copies of the student's"
            )
        if match.missing:
            trainer.logger.info(f"Keys kept as they were: {_some(match.missing)}")
        if match.unexpected:
            trainer.logger.info(f"Keys not used: {_some(match.unexpected)}")
        trainer.model.load_state_dict(match.weights, strict=False)
        if resume:
            self._resume(checkpoint, path)

    def _resume(self, checkpoint: dict[str, Any], path: str) -> None:
        trainer = self.trainer
        try:
            trainer.start_epoch = int(checkpoint["epoch"])
            trainer.restore_progress(checkpoint.get("pointins", {}))
            trainer.best_metric_value = float(checkpoint["best_metric_value"])
            trainer.optimizer.load_state_dict(checkpoint["optimizer"])
            trainer.scheduler.load_state_dict(checkpoint["scheduler"])
            if trainer.scaler is not None and checkpoint["scaler"] is not None:
                trainer.scaler.load_state_dict(checkpoint["scaler"])
        except UserError as error:
            raise UserError(f"checkpoint {path}: {error}") from None
        except (AttributeError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"checkpoint {path} cannot be resumed with this config "
                f"({type(error).__name__}: {str(error).splitlines()[0]}); start anew "
                "with -r false"
            ) from None
        steps = f", step {trainer.start_iter}" if trainer.start_iter else ""
        trainer.logger.info(f"Resuming after epoch {trainer.start_epoch}{steps}")


def _some(keys: list[str], most: int = 20) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
