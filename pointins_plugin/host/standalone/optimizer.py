"""Optimizers with parameter groups chosen by keyword."""

import copy

import torch
import torch.nn as nn

from .logger import get_root_logger
from .muon import MuonKIMI
from .registry import OPTIMIZERS

OPTIMIZERS.register_module("Muon_KIMI", module=MuonKIMI)
for _optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    OPTIMIZERS.register_module(module=_optimizer)

_GROUP_OPTIONS = ("lr", "momentum", "weight_decay", "force_adamw")


def build_optimizer(
    cfg: dict, model: nn.Module, param_dicts: list[dict] | None = None
) -> torch.optim.Optimizer:
    """Build an optimizer over a model's parameters.

    Args:
        cfg: type and options, e.g. ``dict(type="AdamW", lr=.004)``.
        model: frozen parameters are left out when groups are given.
        param_dicts: each entry's ``keyword`` selects the parameters whose name
            contains it (the first entry wins); ``lr``, ``momentum``,
            ``weight_decay`` and ``force_adamw`` hold for its group. The rest is the
            first group.
    """
    cfg = copy.deepcopy(dict(cfg))
    if not param_dicts:
        return OPTIMIZERS.build({**cfg, "params": list(model.parameters())})
    groups: list[dict] = [{"params": [], "lr": cfg["lr"]}]
    for entry in param_dicts:
        options = {key: entry[key] for key in _GROUP_OPTIONS if key in entry}
        groups.append({"params": [], **options})
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        matches = (i + 1 for i, e in enumerate(param_dicts) if e["keyword"] in name)
        groups[next(matches, 0)]["params"].append(parameter)
    logger = get_root_logger()
    for entry, group in zip(param_dicts, groups[1:], strict=True):
        keyword, count = entry["keyword"], len(group["params"])
        named = [p for name, p in model.named_parameters() if keyword in name]
        frozen = bool(named) and not any(p.requires_grad for p in named)
        log = logger.info if count or frozen else logger.warning
        rest = "all are frozen" if frozen else f"lr {group.get('lr')}"
        log(f"Parameters named *{keyword}*: {count}, {rest}")
    return OPTIMIZERS.build({**cfg, "params": groups})
