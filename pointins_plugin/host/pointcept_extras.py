"""What the standalone host has and Pointcept lacks, registered with Pointcept."""

from collections.abc import Mapping
from typing import Any

import wandb
from pointcept.datasets import build_dataset, collate_fn
from pointcept.datasets.transform import TRANSFORMS
from pointcept.engines.test import TESTERS
from pointcept.models import build_model

from .standalone import events, panoptic_tester
from .standalone.testers import load_all
from .standalone.transforms.colour import RandomColorDrop

TRANSFORMS.register_module(module=RandomColorDrop)


def write_scalars(
    trainer: Any, scalars: Mapping[str, float], axis: str, place: int
) -> None:
    """Write scalars to TensorBoard and, where it is on, W&B, as Pointcept's hooks do.

    Its writer is TensorBoard's alone; arguments are the standalone host's.
    """
    events.write_scalars(trainer, scalars, axis, place)
    if trainer.writer is not None and trainer.cfg.enable_wandb and scalars:
        for name in scalars:  # one by one: groups have axes by Pointcept's hooks
            wandb.define_metric(name, step_metric=axis)
        wandb.log({axis: place, **scalars}, step=wandb.run.step)


@TESTERS.register_module()
class PanopticTester(panoptic_tester.PanopticTester):
    """The standalone host's, on Pointcept's data sets and models; same arguments."""

    def build_model(self) -> Any:
        model = build_model(self.cfg.model)
        load_all(model, self.cfg.weight)
        return model.cuda()

    def build_dataset(self) -> Any:
        return build_dataset(self.cfg.data.test)

    collate = staticmethod(collate_fn)
