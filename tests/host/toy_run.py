"""A toy model and data set registered with the host, and a run of them.

Run as a script it trains in a process of its own: ``python toy_run.py FOLDER [K=V]``.
"""

import os
import sys
import time

import numpy as np
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import (
    DATASETS,
    MODELS,
    PointModel,
    default_config_parser,
)
from pointins_plugin.host.standalone.config import parse_value

CONFIG = """
custom_imports = dict(imports=["pointins_plugin"])
weight = None
resume = False
evaluate = False
seed = 7
save_path = "{folder}"
num_worker = 0
num_threads = 1
batch_size = 4
batch_size_val = None
batch_size_test = None
epoch = 4
eval_epoch = 4
clip_grad = 1.0
gradient_accumulation_steps = 1
sync_bn = False
enable_amp = False
amp_dtype = "bfloat16"
empty_cache = False
empty_cache_per_epoch = False
find_unused_parameters = False
mix_prob = 0
param_dicts = None
train = dict(type="DefaultTrainer")
model = dict(type="ToyModel")
data = dict(train=dict(type="ToyDataset"))
optimizer = dict(type="AdamW", lr=0.01)
scheduler = dict(type="OneCycleLR", max_lr=0.01)
hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.9),
    dict(type="WeightDecaySchedular"),
    dict(type="IterationTimer"),
    dict(type="InformationWriter", log_interval=100),
    dict(type="CheckpointSaver"),
]
"""


@DATASETS.register_module(force=True)
class ToyDataset(torch.utils.data.Dataset):
    """Noisy samples: their augmentation draws from NumPy's and torch's generators."""

    def __init__(self, loop=1, size=16, bad=None):
        self.loop = loop
        self.size = size
        self.bad = bad

    def __len__(self):
        return self.size * self.loop

    def __getitem__(self, index):
        if index == self.bad:
            raise UserError(f"scene {index} has no points")
        x = torch.full((1, 3), float(index % self.size)) / self.size
        x = x + torch.from_numpy(np.random.randn(1, 3)).float() + torch.randn(1, 3)
        return {"x": x, "name": str(index)}


@MODELS.register_module(force=True)
class ToyModel(PointModel):
    """A student with dropout that imitates its teacher and the input."""

    def __init__(self, pause=0.0, wider=False, norm=False):
        super().__init__()
        width = 8 if wider else 4
        self.student, self.teacher = (
            nn.Sequential(
                nn.Linear(3, width),
                nn.Dropout(0.5),
                nn.Linear(width, 3),
                *([nn.BatchNorm1d(3)] if norm else []),
            )
            for _ in range(2)
        )
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.pause = pause

    def ema_pairs(self):
        return [(self.student, self.teacher)]

    def forward(self, batch):
        time.sleep(self.pause)
        x = batch["x"]
        y = self.student(x)
        loss = (y - x).square().mean() + (y - self.teacher(x)).square().mean()
        return {"loss": loss}


def configure(folder, **options):
    """Write the toy config into a folder and return it parsed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy.py"
    # Every process of a run writes it: whole, so that none reads what another began.
    part = folder / f"toy.{os.getpid()}.part"
    part.write_text(CONFIG.format(folder=folder / "run"))
    part.replace(path)
    return default_config_parser(str(path), options)


if __name__ == "__main__":
    from pathlib import Path

    from pointins_plugin.cli import main_worker

    words = dict(word.split("=", 1) for word in sys.argv[2:])
    main_worker(
        configure(Path(sys.argv[1]), **{k: parse_value(v) for k, v in words.items()})
    )
