"""A progress bar over the whole run."""

import logging
import sys
from typing import Any

from tqdm import tqdm

from pointins_plugin.host import HOOKS, HookBase, comm


def start_step(trainer: Any) -> int:
    """Return how many batches came before a run was resumed, on either host."""
    if hasattr(trainer, "start_step"):
        return trainer.start_step
    return trainer.start_epoch * len(trainer.train_loader)


@HOOKS.register_module()
class ProgressBar(HookBase):
    """Show one bar with the time left, and keep step lines off the console.

    The lines of ``InformationWriter`` still go to the log file. Where the output is
    no terminal the bar prints a line every ten seconds.

    Args:
        loss_key: entry of the model's output shown beside the bar.
    """

    def __init__(self, loss_key: str = "loss"):
        self.loss_key = loss_key
        self._bar = None

    def before_train(self) -> None:
        if not comm.is_main_process():
            return
        steps = len(self.trainer.train_loader)
        tty = sys.stderr.isatty()
        self._bar = tqdm(
            total=self.trainer.max_epoch * steps,
            initial=start_step(self.trainer),
            desc="pre-training",
            unit="step",
            dynamic_ncols=tty,
            mininterval=0.5 if tty else 10.0,
            file=sys.stderr,
        )
        for handler in self.trainer.logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_not_a_step)

    def after_step(self) -> None:
        if self._bar is None:
            return
        loss = self.trainer.comm_info["model_output_dict"].get(self.loss_key)
        if loss is not None:
            self._bar.set_postfix_str(
                f"{self.loss_key} {float(loss.detach()):.3f}", refresh=False
            )
        self._bar.update()

    def after_train(self) -> None:
        if self._bar is None:
            return
        self._bar.close()
        for handler in self.trainer.logger.handlers:
            handler.removeFilter(_not_a_step)


def _not_a_step(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(("Train: [", "Train result", "Monitor ["))
