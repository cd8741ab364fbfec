"""Objects from configs: models, losses and datasets."""

from typing import Any

import torch.nn as nn

from .registry import DATASETS, LOSSES, MODELS


def build_model(cfg: dict) -> nn.Module:
    """Build a model from its config."""
    return MODELS.build(cfg)


def build_dataset(cfg: dict) -> Any:
    """Build a dataset from its config."""
    return DATASETS.build(cfg)


class Criteria(nn.Module):
    """The sum of several losses; the first prediction where there is none."""

    def __init__(self, losses: list[nn.Module]):
        super().__init__()
        self.criteria = nn.ModuleList(losses)

    def forward(self, prediction: Any, target: Any) -> Any:
        if not self.criteria:
            return prediction
        return sum(loss(prediction, target) for loss in self.criteria)


def build_criteria(cfg: list[dict] | None) -> Criteria:
    """Build the sum of losses from their configs."""
    return Criteria([LOSSES.build(entry) for entry in cfg or []])
