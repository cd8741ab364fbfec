"""Losses of one forward pass by whichever host this process uses.

``python one_forward.py CONFIG FOLDER``: the config's model, shrunk, with the weights of
``FOLDER/weights.pth`` on the batch of ``FOLDER/batch.pth``; the losses go to
``FOLDER/losses.json``. In a test the same function writes weights and batch first.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from small_runs import few_scenes, shrink

from pointins_plugin.host import Config, build_dataset, build_model, collate_fn
from pointins_plugin.host.standalone.checkpoint import load_checkpoint
from pointins_plugin.host.standalone.testers import load_all
from pointins_plugin.paths import config_root


def model_and_config(name: str):
    """Build a pre-training model whose forward pass draws nothing but masks."""
    cfg = Config.fromfile(str(config_root() / "pointins" / f"{name}.py"))
    shrink(cfg.model)
    if cfg.model.backbone.type == "PT-v3m2":
        cfg.model.backbone.update(
            drop_path=0.0, shuffle_orders=False, enable_flash=False
        )
    if "mask_jitter" in cfg.model:
        # Jittered points may share a cell, which spconv reads from any one of them.
        cfg.model.mask_jitter = None
    for part in cfg.data.values():
        if isinstance(part, dict):
            few_scenes(part)
    torch.manual_seed(3)
    return build_model(cfg.model), cfg


def write(name: str, folder: Path) -> None:
    """Write random weights and a batch of two scenes."""
    model, cfg = model_and_config(name)
    random.seed(0)
    np.random.seed(0)
    torch.save({"state_dict": model.state_dict()}, folder / "weights.pth")
    dataset = build_dataset(cfg.data.train)
    batch = collate_fn([dataset[0], dataset[1]])
    tensors = {k: v for k, v in batch.items() if isinstance(v, torch.Tensor)}
    torch.save({"state_dict": tensors}, folder / "batch.pth")


def losses(name: str, folder: Path) -> dict[str, float]:
    """Return every number that the model gives for the written batch."""
    model, _ = model_and_config(name)
    load_all(model, str(folder / "weights.pth"))
    batch = load_checkpoint(str(folder / "batch.pth"))["state_dict"]
    if hasattr(model, "set_progress"):
        model.set_progress(0.5)
    torch.manual_seed(5)
    with torch.no_grad():
        output = model.train()(batch)
    return {key: value.item() for key, value in output.items()}


if __name__ == "__main__":
    target = Path(sys.argv[2])
    text = json.dumps(losses(sys.argv[1], target))
    (target / "losses.json").write_text(text)
