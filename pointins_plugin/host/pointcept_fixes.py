"""Where Pointcept d74c646 stops a run of this package's configs, on any machine.

Its files stay as they are: functions and methods are wrapped in this process. Each
fix acts only where Pointcept would raise an error, or, with gradient accumulation,
bring weight decay to its end too early. ``default_config_parser`` and
``launch`` are for the plugin's own commands.
"""

import functools
import os
from typing import Any

import numpy as np
import torch
from pointcept.datasets import ScanNetDataset, ScanNetPairDataset
from pointcept.engines import defaults, launch
from pointcept.engines.hooks.misc import CheckpointSaver, WeightDecaySchedular
from pointcept.engines.train import MultiDatasetTrainer, PartialSampledTrainer, Trainer
from pointcept.models.builder import MODELS
from pointcept.utils.events import ExceptionWriter
from pointcept.utils.scheduler import OneCycleLR

from pointins_plugin.errors import UserError

from .pointcept_cpu.legacy import in1d
from .standalone.config import RUNTIME_KEYS, find_option

# What scripts set or Pointcept reads whether or not a config names it.
_RUNTIME_KEYS = (*RUNTIME_KEYS, "batch_size_val", "batch_size_test", "enable_wandb")

_worker = launch._distributed_worker


def install() -> None:
    """Apply every fix, once."""
    if launch._distributed_worker is _worker:
        launch._distributed_worker = distributed_worker
    for kind in (Trainer, PartialSampledTrainer, MultiDatasetTrainer):
        kind.build_train_loader = _with_a_worker(kind.build_train_loader)
    CheckpointSaver.after_epoch = _without_metric(CheckpointSaver.after_epoch)
    WeightDecaySchedular.before_step = _by_optimizer_steps(
        WeightDecaySchedular.before_step
    )
    if hasattr(torch.serialization, "safe_globals"):
        ScanNetPairDataset.get_data = _reading_arrays(ScanNetPairDataset.get_data)
        ScanNetDataset.__init__ = _reading_arrays(ScanNetDataset.__init__)
    put_back_in1d()
    OneCycleLR.__init__ = _after_the_start(OneCycleLR.__init__)
    ExceptionWriter.__exit__ = _in_one_line(ExceptionWriter.__exit__)
    for name in ("PG-v1m1", "PG-v1m2"):
        kind = MODELS.get(name)
        kind.forward = _without_things(kind.forward)


def put_back_in1d() -> None:
    """Let ``InstanceParser`` have ``np.in1d``, which is gone in NumPy 2.4."""
    if not hasattr(np, "in1d"):
        np.in1d = in1d  # noqa: NPY201


def default_config_parser(file: str, options: dict[str, Any] | None) -> Any:
    """Read a config and apply overrides, with the errors of the standalone host.

    A key of a list may be an entry's type. What an option adds inside the config is
    Pointcept's to accept or refuse: it knows its classes.

    Raises:
        UserError: an option that is no key of the config.
    """
    root = defaults.Config.fromfile(file)._cfg_dict
    placed: dict[str, Any] = {}
    for dotted, value in (options or {}).items():
        *parents, last = find_option(
            root, dotted, lambda _, key, where: bool(where) or key in _RUNTIME_KEYS
        )
        holder = root
        for part in parents:
            holder = holder[part]
        where = ".".join(map(str, parents))
        if isinstance(holder, list) and not isinstance(holder[last], dict):
            # Pointcept sets keys of dictionaries only: give it the whole list.
            changed = list(placed.get(where, holder))
            changed[last] = value
            placed[where] = changed
        else:
            placed[".".join(map(str, [*parents, last]))] = value
    return defaults.default_config_parser(file, placed)


def launch_in_one_line(*arguments: Any, **options: Any) -> None:
    """Launch as Pointcept does; a user's error in a process it started is one here.

    Raises:
        UserError: a process raised one.
    """
    try:
        launch.launch(*arguments, **options)
    except torch.multiprocessing.ProcessRaisedException as error:
        _, found, message = str(error).rpartition("UserError: ")
        if not found:
            raise
        raise UserError(message.strip()) from None


def distributed_worker(*arguments) -> None:
    """Be a process of ``launch`` in which this package is registered.

    ``custom_imports`` of a config runs in the parent only. A spawned process unpickles
    this function by its name, which imports the package, and then does what
    Pointcept's worker does.
    """
    _worker(*arguments)


def _with_a_worker(build):
    """Load data in at least one process: the loader's workers are persistent.

    Raises:
        UserError: there is nothing to load.
    """

    @functools.wraps(build)
    def build_train_loader(self):
        self.cfg.num_worker_per_gpu = max(1, self.cfg.num_worker_per_gpu)
        try:
            loader = build(self)
            empty = len(loader) == 0
        except ValueError as error:
            if "num_samples=0" not in str(error):  # of torch's RandomSampler
                raise
            empty = True
        if empty:
            train = self.cfg.data.train
            place = os.path.abspath(train.get("data_root") or "data")
            raise UserError(
                f"data.train: {train.type} has not one batch of scenes (looked for in "
                f"{place}); set data.train.data_root, or POINTINS_DATA if it is read"
            ) from None
        return loader

    return build_train_loader


def _without_metric(save):
    """Save without a metric: evaluators need not run after every epoch."""

    @functools.wraps(save)
    def after_epoch(self):
        info = self.trainer.comm_info
        if self.trainer.cfg.evaluate and "current_metric_value" not in info:
            info.setdefault("current_metric_name", "metric (not evaluated yet)")
            info["current_metric_value"] = -float("inf")
        save(self)

    return after_epoch


def _by_optimizer_steps(before_step):
    """Let the weight decay reach its end with the run, not with its micro-batches.

    Its length is in optimizer steps, but it moves with every batch of gradient
    accumulation. Without accumulation nothing changes.
    """

    @functools.wraps(before_step)
    def before(self):
        if self.trainer.cfg.gradient_accumulation_steps > 1:
            self.scheduler.iter = self.trainer.scheduler.last_epoch
        before_step(self)

    return before


def _after_the_start(init):
    """Let a one-cycle schedule reach its top in one step, a division by zero."""

    @functools.wraps(init)
    def start(self, optimizer, max_lr, total_steps=None, pct_start=0.3, *rest, **more):
        if total_steps and abs(pct_start * total_steps - 1) < 1e-6:
            pct_start += 1e-3 / total_steps if total_steps > 1 else -1e-3
        init(self, optimizer, max_lr, total_steps, pct_start, *rest, **more)

    return start


def _reading_arrays(read):
    """Let ``torch.load`` read NumPy arrays, which torch >= 2.6 refuses by default.

    Frames of ScanNet pairs and limited annotations are saved so.
    """
    rebuild = np.zeros(1).__reduce__()[0]
    names = (f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
    kinds = {type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"}
    allowed = [np.ndarray, np.dtype, *kinds, *((rebuild, name) for name in names)]

    @functools.wraps(read)
    def read_arrays(*arguments, **options):
        with torch.serialization.safe_globals(allowed):
            return read(*arguments, **options)

    return read_arrays


def _in_one_line(leave):
    """Let what the user can put right reach the command line, without a traceback."""

    @functools.wraps(leave)
    def __exit__(self, kind, error, traceback):
        if not isinstance(error, UserError):
            leave(self, kind, error, traceback)
            return
        # One from a loader's process brings that process's traceback with it.
        message = str(error).strip().rpartition("UserError: ")[2]
        self.logger.error(message)
        raise UserError(message) from None

    return __exit__


def _without_things(forward):
    """Evaluate a scene in which PointGroup takes no point for a thing."""

    @functools.wraps(forward)
    def forward_any(self, data_dict, *options, **named):
        try:
            return forward(self, data_dict, *options, **named)
        except IndexError:
            if self.training:
                raise
        # Its proposals have one axis too few. The losses are those of a training
        # step, in which it proposes nothing; layers stay in evaluation mode.
        self.training = True
        try:
            result = forward(self, data_dict, *options, **named)
        finally:
            self.training = False
        count = len(data_dict["coord"])
        result["pred_scores"] = torch.empty(0)
        result["pred_classes"] = torch.empty(0, dtype=torch.long)
        result["pred_masks"] = torch.empty(0, count, dtype=torch.int)
        return result

    return forward_any
