"""The training loop."""

import ctypes
import os
import signal
import weakref
from collections.abc import Iterator
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from pointins_plugin.errors import BatchError, UserError

from . import comm
from .batches import batch_to
from .builders import build_dataset, build_model
from .collate import collate_fn, point_collate_fn
from .env import derive_seed, set_seed
from .events import EventStorage, MetricsWriter, start_wandb
from .hooks import HookBase, build_hooks
from .logger import get_root_logger, log_to_file
from .optimizer import build_optimizer
from .registry import TRAINERS
from .sampling import EpochSampler, SeededLoader
from .scheduler import build_scheduler
from .signals import StopSignals, exit_code
from .sync_norm import synchronize_batch_norm

# Keys that may differ between a run and its resumption without changing its outcome.
UNRELATED_KEYS = (
    "save_path",
    "resume",
    "weight",
    "num_worker",
    "num_worker_per_gpu",
    "num_threads",
    "enable_wandb",
    "wandb_project",
    "wandb_key",
)

AMP_DTYPE = {"float16": torch.float16, "bfloat16": torch.bfloat16}

# Steps on CPU between two returns of freed memory to the system: batches of ever
# other sizes leave the C library's heap full of holes, several times what is in use.
_TRIM_EVERY = 10


# Beside signals, whose numbers are between, in what ranks agree on.
_SAVE = 1
_DIVERGED = 1000

# What keeps running statistics apart after the start is named anew in torch 2.13.
_SYNC_BUFFERS = "forward_sync_buffers"
if _SYNC_BUFFERS not in signature(nn.parallel.DistributedDataParallel).parameters:
    _SYNC_BUFFERS = "broadcast_buffers"


class TrainerBase:
    """Runs hooks around epochs and steps."""

    def __init__(self):
        self.hooks: list[HookBase] = []
        self.epoch = 0
        self.start_epoch = 0
        self.start_iter = 0  # batches of the first epoch that a resumed run has had
        self.max_epoch = 0
        self.comm_info: dict[str, Any] = {}
        self.storage = EventStorage()
        notice = "stopping after this step; Ctrl-C again stops at once"
        self.stop_signals = StopSignals(
            notice=notice if comm.is_main_process() else None
        )
        self.stopping: int | None = None  # the signal that ends the run
        self.save_due = False  # after this step, what a hook asks of all ranks
        self.diverged: str | None = None  # what a hook found that must end it
        self.writer: MetricsWriter | None = None

    def register_hooks(self, hooks: list[dict]) -> None:
        """Build hooks and let them see this trainer."""
        for hook in build_hooks(hooks):
            hook.trainer = weakref.proxy(self)
            self.hooks.append(hook)

    def call_hooks(self, event: str) -> None:
        """Call one event of every hook, in order."""
        for hook in self.hooks:
            getattr(hook, event)()


@TRAINERS.register_module("DefaultTrainer")
class Trainer(TrainerBase):
    """Train a model as its config says, on CPU or CUDA, on one or several processes.

    Every draw of randomness is a function of the seed and of its place: the order of
    samples of (seed, epoch), a sample's augmentation of (seed, epoch, index), a
    step's own draws of (seed, rank, step). A run that was killed and resumed
    therefore ends like one that was not.
    """

    def __init__(self, cfg: Any):
        super().__init__()
        self.cfg = cfg
        self.max_epoch = cfg.eval_epoch
        self.best_metric_value = -float("inf")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.logger = get_root_logger(
            os.path.join(cfg.save_path, "train.log"), "a" if cfg.resume else "w"
        )
        self.logger.info(f"Save path: {cfg.save_path}")
        self.amp_dtype = self._amp_dtype()
        # Data first: what is missing there shows before a large model is built.
        self.train_loader = self.build_train_loader()
        self.val_loader = self.build_val_loader()
        self.model = self.build_model()
        self.writer = self.build_writer()
        self.optimizer = build_optimizer(
            cfg.optimizer, self.model, cfg.get("param_dicts")
        )
        self.scheduler = self.build_scheduler()
        self.scaler = self.build_scaler()
        self.register_hooks(cfg.hooks)
        self._micro_batches = 0
        self._iteration = 0  # batches of this epoch that are done
        self._trim = _heap_trimmer() if self.device.type == "cpu" else None

    @property
    def start_step(self) -> int:
        """Batches that came before this run was resumed."""
        return self.start_epoch * len(self.train_loader) + self.start_iter

    def train(self) -> None:
        """Run all epochs, from where a checkpoint left off."""
        try:
            self._train()
        except Exception as error:
            log_to_file(self.logger, error)
            raise
        finally:
            if self.writer is not None:
                self.writer.close()

    def _train(self) -> None:
        with self.storage:
            with self.stop_signals:
                self._train_epochs()
            comm.synchronize()
            self.call_hooks("after_train")

    def _train_epochs(self) -> None:
        self.call_hooks("before_train")
        if self.start_epoch < self.max_epoch:
            self.logger.info(
                f"Training on {self.device} from epoch {self.start_epoch + 1} to "
                f"{self.max_epoch}, {len(self.train_loader)} steps each"
            )
        else:
            self.logger.info(f"All {self.max_epoch} epochs are done")
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self._iteration = self.start_iter if epoch == self.start_epoch else 0
            self.train_loader.sampler.set_epoch(
                self.epoch, self._iteration * self.cfg.batch_size_per_gpu
            )
            self.model.train()
            self.call_hooks("before_epoch")
            for index, batch in self._batches():
                self.comm_info["iter"] = index
                self.comm_info["input_dict"] = self.to_device(batch)
                self.save_due = False  # agreed on for the last step only
                self.call_hooks("before_step")
                self.run_step()
                self._iteration = index + 1
                self._agree_to_stop()
                self.call_hooks("after_step")
                self._stop_if_agreed()
            self._iteration = 0
            self.call_hooks("after_epoch")
            self.storage.reset_histories()
            if self.cfg.empty_cache_per_epoch and self.device.type == "cuda":
                torch.cuda.empty_cache()
            self._agree_to_stop()
            self._stop_if_agreed()

    def _agree_to_stop(self) -> None:
        """Learn of a signal to any rank, or of a loss of any that is not finite.

        One that stopped or saved alone would hang the rest.
        """
        number = self.stop_signals.number or (_SAVE if self.save_due else 0)
        agreed = comm.largest(number if self.diverged is None else _DIVERGED)
        if agreed == _DIVERGED:
            self.end_diverged(self.diverged or "the loss of another rank is not finite")
        self.save_due = agreed == _SAVE
        self.stopping = agreed if agreed > _SAVE else None

    def end_diverged(self, what: str) -> None:
        """End the run; all ranks call it at the same place.

        Raises:
            UserError: always.
        """
        last = Path(self.cfg.save_path) / "model" / "model_last.pth"
        begin = f", weight={last} begins with the last ones saved" * last.is_file()
        raise UserError(
            f"{what}: begin anew with a lower learning rate{begin}; or go on from "
            "there (-r true) with clip_grad or enable_amp=True amp_dtype=bfloat16; or "
            "look for what is wrong with the data"
        )

    def _stop_if_agreed(self) -> None:
        if self.stopping is None:
            return
        comm.synchronize()  # the main process may still write the checkpoint
        self.logger.warning(f"Stopped by {signal.Signals(self.stopping).name}")
        raise SystemExit(exit_code(self.stopping))

    def _batches(self) -> Iterator[tuple[int, dict]]:
        for index, batch in enumerate(self.train_loader, self._iteration):
            step = self.epoch * len(self.train_loader) + index
            set_seed(derive_seed(self.cfg.seed, comm.get_rank(), step))
            if self._trim is not None and step % _TRIM_EVERY == 0:
                self._trim(0)
            yield index, batch

    def to_device(self, batch: dict) -> dict:
        """Move the tensors of a batch to the trainer's device."""
        return batch_to(batch, self.device, non_blocking=True)

    def autocast(self):
        """Return the context of mixed precision that the config asks for."""
        return torch.autocast(
            self.device.type,
            enabled=self.cfg.enable_amp,
            dtype=self.amp_dtype if self.cfg.enable_amp else None,
        )

    def run_step(self) -> None:
        """Forward and backward of one micro-batch; an optimizer step when due."""
        every = self.cfg.gradient_accumulation_steps
        if self._micro_batches == 0:
            self.optimizer.zero_grad(set_to_none=True)
        batch = self.comm_info["input_dict"]
        try:
            with self.autocast():
                output = self.model(batch)
        except BatchError as error:
            names = batch.get("name")
            named = names if isinstance(names, list) else [names]
            scenes = f" (scenes of this step: {', '.join(map(str, named))})"
            raise UserError(f"{error}{scenes if names else ''}") from None
        loss = output["loss"] / every
        if self.scaler is not None:
            self.scaler.scale(loss).backward()
        else:
            loss.backward()
        self._micro_batches += 1
        if self._micro_batches >= every:
            self._optimizer_step()
            self._micro_batches = 0
        if self.cfg.empty_cache and self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.comm_info["model_output_dict"] = output

    def _optimizer_step(self) -> None:
        """Step optimizer and scheduler; neither moves when mixed precision skips."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.cfg.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip_grad)
        if self.scaler is None:
            self.optimizer.step()
            self.scheduler.step()
            return
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        if scale <= self.scaler.get_scale():
            self.scheduler.step()

    def progress(self) -> dict[str, Any]:
        """Return what a resumed run needs besides Pointcept's entries of a checkpoint.

        Gradients of micro-batches that wait for their optimizer step are part of it:
        they carry over from one epoch to the next. So are the running statistics of
        batch norms on other ranks, where each has its own. All ranks call it.
        """
        from pointins_plugin import __version__

        ranks = comm.all_gather(
            {key: value.cpu() for key, value in _running_statistics(self.model).items()}
        )
        state: dict[str, Any] = {
            "version": __version__,
            "config": self.cfg.digest(without=UNRELATED_KEYS),
            "total_steps": self.cfg.scheduler.total_steps,
            "micro_batches": self._micro_batches,
            "iteration": self._iteration,
        }
        if any(not torch.equal(ranks[0][key], r[key]) for r in ranks for key in r):
            state["ranks"] = ranks
        if self._iteration:
            state["histories"] = self.storage.state_dict()
        if self._micro_batches:
            state["gradients"] = {
                name.removeprefix("module."): parameter.grad
                for name, parameter in self.model.named_parameters()
                if parameter.grad is not None
            }
        return state

    def restore_progress(self, state: dict[str, Any]) -> None:
        """Take back what ``progress`` returned.

        A changed config is logged, where there is something left to train.

        Raises:
            UserError: the run would have another number of optimizer steps.
        """
        steps = self.cfg.scheduler.total_steps
        if state.get("total_steps", steps) != steps:
            raise UserError(
                f"the run had {state['total_steps']} optimizer steps, this config and "
                f"data give {steps}: resume with what it was started with, or start "
                "a new run from its weights (resume=False)"
            )
        digest = self.cfg.digest(without=UNRELATED_KEYS)
        goes_on = self.start_epoch < self.max_epoch
        if goes_on and state.get("config", digest) != digest:
            self.logger.warning(
                "The config is not the one this run was started with: it goes on, but "
                "not to where it would have ended"
            )
        self._micro_batches = int(state.get("micro_batches", 0))
        self.start_iter = int(state.get("iteration", 0))
        self.storage.load_state_dict(state.get("histories", {}))
        ranks = state.get("ranks", [])
        if len(ranks) == comm.get_world_size():
            own = ranks[comm.get_rank()]
            for name, value in _running_statistics(self.model).items():
                value.copy_(own[name])
        gradients = state.get("gradients", {})
        for name, parameter in self.model.named_parameters():
            gradient = gradients.get(name.removeprefix("module."))
            if gradient is not None:
                parameter.grad = gradient.to(parameter.device)

    def _amp_dtype(self) -> torch.dtype:
        name = self.cfg.amp_dtype
        if name not in AMP_DTYPE:
            raise UserError(f"config: amp_dtype={name!r}; use one of {list(AMP_DTYPE)}")
        if self.cfg.enable_amp and name == "float16" and self.device.type == "cpu":
            self.logger.info("float16 needs a GPU: mixed precision uses bfloat16")
            return torch.bfloat16
        return AMP_DTYPE[name]

    def build_model(self) -> nn.Module:
        """Build the model on the device, wrapped where several processes train."""
        model = build_model(self.cfg.model)
        if self.cfg.sync_bn and comm.get_world_size() > 1:
            model = synchronize_batch_norm(model, self.device)
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.logger.info(f"Trainable parameters: {count:,}")
        model = model.to(self.device)
        if comm.get_world_size() == 1:
            return model
        return nn.parallel.DistributedDataParallel(
            model,
            device_ids=[comm.get_local_rank()] if self.device.type == "cuda" else None,
            **{_SYNC_BUFFERS: False},
            find_unused_parameters=self.cfg.find_unused_parameters,
        )

    def build_writer(self) -> MetricsWriter | None:
        """Return the writer of scalars, on the main process."""
        cfg = self.cfg
        if not comm.is_main_process():
            return None
        wandb = None
        if cfg.get("enable_wandb"):
            wandb = start_wandb(cfg)
        writer = MetricsWriter(cfg.save_path, resume=bool(cfg.resume), wandb_run=wandb)
        if not writer.has_tensorboard:
            self.logger.info(
                "Metrics go to metrics.jsonl alone; for TensorBoard: "
                "pip install tensorboard"
            )
        return writer

    def build_train_loader(self) -> DataLoader:
        """Build the loader of training batches."""
        cfg = self.cfg
        dataset = build_dataset(cfg.data.train)
        if len(dataset) == 0:
            raise UserError("config: data.train has no sample")
        # The rest of an epoch is left out before ranks fill their shares up by repeats.
        sampler = EpochSampler(
            len(dataset),
            cfg.seed,
            True,
            comm.get_rank(),
            comm.get_world_size(),
            multiple=cfg.batch_size if len(dataset) > cfg.batch_size else 1,
        )
        return SeededLoader(
            dataset,
            partial(point_collate_fn, mix_prob=cfg.mix_prob),
            cfg.seed,
            sampler,
            batch_size=cfg.batch_size_per_gpu,
            num_workers=cfg.num_worker_per_gpu,
            pin_memory=self.device.type == "cuda",
            persistent_workers=cfg.num_worker_per_gpu > 0,
        )

    def build_val_loader(self) -> DataLoader | None:
        """Build the loader of validation scenes, if the config evaluates."""
        cfg = self.cfg
        if not cfg.evaluate:
            return None
        if cfg.data.get("val") is None:
            raise UserError("config: evaluate=True needs data.val")
        dataset = build_dataset(cfg.data.val)
        sampler = EpochSampler(
            len(dataset), cfg.seed, False, comm.get_rank(), comm.get_world_size()
        )
        return SeededLoader(
            dataset,
            collate_fn,
            cfg.seed,
            sampler,
            batch_size=cfg.batch_size_val_per_gpu,
            num_workers=cfg.num_worker_per_gpu,
            pin_memory=self.device.type == "cuda",
        )

    def build_scheduler(self) -> Any:
        """Build the learning-rate scheduler over all optimizer steps."""
        steps = len(self.train_loader) * self.cfg.eval_epoch
        steps //= self.cfg.gradient_accumulation_steps
        self.cfg.scheduler.total_steps = max(steps, 1)
        return build_scheduler(self.cfg.scheduler, self.optimizer)

    def build_scaler(self) -> torch.amp.GradScaler | None:
        """Return the loss scaler of mixed precision.

        As in Pointcept bfloat16 has one too: it does not need the scale, but its
        steps with gradients that are not finite are left out.
        """
        if not self.cfg.enable_amp:
            return None
        if hasattr(torch.amp, "GradScaler"):
            return torch.amp.GradScaler(self.device.type)
        return torch.cuda.amp.GradScaler()  # torch < 2.3, nothing on CPU


def _running_statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers of a model's batch norms, by name."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for key, value in module.named_buffers()
    }


def _heap_trimmer() -> Any:
    """Return glibc's ``malloc_trim``, or None where there is none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
