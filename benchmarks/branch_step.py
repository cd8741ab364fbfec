"""What the offset branch adds to a training step: PointINS beside DOS.

    python benchmarks/branch_step.py [--networks demo half paper] [--rounds 7]
        [--max-size N] [--device cuda --amp bfloat16] [--json FILE]

Per network the same batches, rooms, go through both models in turn: forward, backward
and optimizer step after the warm-up of the branch. ``demo`` is the network and the
*spatial* preset of ``pointins/demo-pretrain``; ``paper`` those of
``pointins/scannet-pretrain`` (Sonata's base, the *paper* preset, a 2 cm grid), ``half``
the same with half the widths.
"""

import argparse
import copy
import statistics
import time
from typing import Any

import numpy as np
import torch
from alternation import report

from pointins_plugin.host import Config, build_dataset, build_model, collate_fn
from pointins_plugin.paths import find_config

NETWORKS = {
    "demo": "pointins/demo-pretrain",
    "half": "pointins/scannet-pretrain",
    "paper": "pointins/scannet-pretrain",
}


def configure(name: str, max_size: int | None, device: str) -> Config:
    """Return a network's config on rooms."""
    cfg = Config.fromfile(find_config(NETWORKS[name]))
    if name == "demo":
        return cfg
    rooms = Config.fromfile(find_config(NETWORKS["demo"])).data.train
    transform = cfg.data.train.transform
    for step in transform:
        if "max_size" in step:
            step["max_size"] = max_size or 20480
    cfg.data.train = {**rooms, "transform": transform}
    cfg.batch_size = 1 if device == "cpu" else 4
    if device == "cpu":
        cfg.model.backbone.enable_flash = False
    if name == "half":
        widths = cfg.model.backbone.enc_channels
        cfg.model.backbone.enc_channels = tuple(width // 2 for width in widths)
    return cfg


def batches(cfg: Config, device: str) -> list[dict[str, Any]]:
    """Return a few batches."""
    np.random.seed(0)
    dataset = build_dataset(cfg.data.train)
    size = cfg.batch_size
    found = []
    for start in range(0, 3 * size, size):
        batch = collate_fn([dataset[start + j] for j in range(size)])
        found.append(
            {
                key: value.to(device) if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
            }
        )
    return found


class Step:
    """Forward, backward and optimizer step of one model."""

    def __init__(self, cfg: Config, branch: Any, device: str, amp: str | None):
        torch.manual_seed(0)
        self.model = build_model({**cfg.model, "offset_branch": branch}).to(device)
        self.model.train().set_progress(0.5)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.device, self.dtype = device, amp and getattr(torch, amp)

    def forward(self, batch: dict) -> torch.Tensor:
        """Return the loss of a batch."""
        with torch.autocast(self.device, self.dtype, enabled=self.dtype is not None):
            return self.model(copy.copy(batch))["loss"]

    def backward(self, loss: torch.Tensor) -> None:
        """Fill the gradients."""
        loss.backward()

    def __call__(self, batch: dict, seed: int) -> tuple[float, float]:
        """Return the seconds of a step, of the clock and of the processor."""
        torch.manual_seed(seed)
        if self.device != "cpu":
            torch.cuda.synchronize()
        start, busy = time.perf_counter(), time.process_time()
        loss = self.forward(batch)
        self.optimizer.zero_grad()
        self.backward(loss)
        self.optimizer.step()
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - busy


def measure(name: str, rounds: int, device: str, amp: str | None, max_size) -> dict:
    """Return the row of one network."""
    cfg = configure(name, max_size, device)
    data = batches(cfg, device)
    branch = cfg.model.offset_branch
    steps = {
        "branch": Step(cfg, branch, device, amp),
        "dos": Step(cfg, None, device, amp),
    }
    times: dict[str, list[float]] = {key: [] for key in steps}
    busy: dict[str, list[float]] = {key: [] for key in steps}
    for index in range(rounds + 1):
        for key, step in steps.items():
            seconds, processor = step(data[index % len(data)], index)
            if index:
                times[key].append(seconds)
                busy[key].append(processor)
    # Of pairs of neighbours in time: what else the machine does meets both.
    pairs = [a / b for a, b in zip(times["branch"], times["dos"], strict=True)]
    work = [a / b for a, b in zip(busy["branch"], busy["dos"], strict=True)]
    return {
        "network": name,
        "points": round(statistics.mean(len(batch["global_coord"]) for batch in data)),
        "parameters_m": sum(p.numel() for p in steps["dos"].model.student.parameters())
        / 1e6,
        "DOS_s": statistics.median(times["dos"]),
        "PointINS_s": statistics.median(times["branch"]),
        "ratio": statistics.median(pairs),
        "ratio_min": min(pairs),
        "ratio_max": max(pairs),
        # Others on the machine delay a step but add nothing to its processor time.
        "ratio_cpu_time": statistics.median(work),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["demo", "half"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--max-size", type=int, help="points of a view at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", help="bfloat16 or float16")
    parser.add_argument("--json")
    args = parser.parse_args()
    rows = [
        measure(name, args.rounds, args.device, args.amp, args.max_size)
        for name in args.networks
    ]
    report(rows, args.json)


if __name__ == "__main__":
    main()
