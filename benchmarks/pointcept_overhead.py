"""What the plugin adds to a training step of Pointcept: PointINS beside Sonata-v1m1.

    POINTCEPT_ROOT=/path/to/Pointcept python benchmarks/pointcept_overhead.py
        [--rounds 15] [--scenes 2] [--widths 1] [--amp bfloat16]
        [--json FILE]

Three runs of Pointcept's Trainer, of ``docs/examples/sonata-rooms.py``: Pointcept's
model, ``PointINS`` with ``SonataObjective`` and without a branch, and the same with the
branch of the paper, past its warm-up. In turn each goes one step on the same batch
with the same random numbers: hooks, forward, backward, optimizer and the teacher's
average. The ratios are medians over pairs of neighbours in time; on CPU the one of the
process's own seconds tells more where other work shares the cores.
"""

import argparse
import copy
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alternation import report

from pointins_plugin.host import (
    HOST,
    TRAINERS,
    collate_fn,
    default_config_parser,
    default_setup,
)
from pointins_plugin.models.sonata_keywords import (
    SONATA_KEYWORDS,
    TRUNK_DEFAULTS,
    sonata_objective,
)

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "sonata-rooms.py"
BRANCH = {
    "prior": {"type": "log_normal", "median": 0.42, "sigma": 0.66},
    "odr": {"type": "ODRLoss"},
    "scr": {"type": "SCRLoss"},
    "warmup_ratio": 0.0,
}


def ours(sonata: dict, branch: dict | None) -> dict:
    """Return PointINS with the objective of a ``Sonata-v1m1`` config."""
    split: list[dict] = [{}, {}]
    for key, value in sonata.items():
        split[key in SONATA_KEYWORDS][key] = value
    trunk, objective = split
    del trunk["head_in_channels"]
    return {
        **TRUNK_DEFAULTS,
        **trunk,
        "type": "PointINS",
        "semantic": sonata_objective(objective),
        "offset_branch": branch,
    }


class Run:
    """One run of Pointcept's Trainer, a step at a time."""

    def __init__(self, kind: str, folder: Path, args: argparse.Namespace):
        options = {
            "save_path": str(folder / kind),
            "seed": 0,
            "batch_size": args.scenes,
            "enable_wandb": False,
        }
        if args.amp:
            options |= {"enable_amp": True, "amp_dtype": args.amp}
        cfg = default_config_parser(str(EXAMPLE), options)
        backbone = cfg.model.backbone
        widths = [args.widths * width for width in backbone.enc_channels]
        backbone.enc_channels = tuple(widths)
        cfg.model.head_in_channels = sum(widths)
        if kind != "sonata":
            branch = copy.deepcopy(BRANCH) if kind == "branch" else None
            cfg.model = ours(copy.deepcopy(dict(cfg.model)), branch)
        self.trainer = TRAINERS.build(
            {"type": cfg.train.type, "cfg": default_setup(cfg)}
        )
        self.storage = event_storage()
        with self.storage as self.trainer.storage:
            self.trainer.epoch = 0
            self.trainer.before_train()
            self.trainer.model.train()
            self.trainer.before_epoch()

    def step(self, index: int, batch: dict[str, Any]) -> tuple[float, float]:
        """Return the seconds of one step, by the clock and of this process."""
        torch.manual_seed(index)
        trainer = self.trainer
        wait()
        start = time.perf_counter(), time.process_time()
        with self.storage:
            trainer.comm_info["iter"] = index
            trainer.comm_info["input_dict"] = copy.copy(batch)
            trainer.before_step()
            trainer.run_step()
            trainer.after_step()
        wait()
        return time.perf_counter() - start[0], time.process_time() - start[1]


def event_storage() -> Any:
    """Return what Pointcept's hooks write to."""
    from pointcept.utils.events import EventStorage

    return EventStorage()


def wait() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(args: argparse.Namespace) -> list[dict]:
    """Return a row a model."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            kind: Run(kind, Path(folder), args)
            for kind in ("sonata", "objective", "branch")
        }
        np.random.seed(0)
        dataset = runs["sonata"].trainer.train_loader.dataset
        batches = [
            collate_fn([dataset[args.scenes * i + j] for j in range(args.scenes)])
            for i in range(3)
        ]
        times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in runs}
        for index in range(args.rounds + 1):
            for kind, run in runs.items():
                seconds = run.step(index, batches[index % len(batches)])
                if index:
                    times[kind].append(seconds)
    names = {
        "sonata": "Sonata-v1m1",
        "objective": "PointINS, no branch",
        "branch": "PointINS",
    }
    rows = []
    for kind, taken in times.items():
        pairs = list(zip(taken, times["sonata"], strict=True))
        ratios = [a[0] / b[0] for a, b in pairs]
        rows.append(
            {
                "model": names[kind],
                "points": sum(len(b["global_coord"]) for b in batches) // len(batches),
                "step_s": statistics.median(clock for clock, _ in taken),
                "process_s": statistics.median(process for _, process in taken),
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "process_ratio": statistics.median(a[1] / b[1] for a, b in pairs),
            }
        )
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scenes", type=int, default=2, help="of a batch")
    parser.add_argument("--widths", type=int, default=1, help="times the example's")
    parser.add_argument("--amp", choices=("bfloat16", "float16"), help="on a GPU")
    parser.add_argument("--json")
    args = parser.parse_args()
    if HOST != "pointcept":
        print("this needs Pointcept: set POINTCEPT_ROOT to a checkout", file=sys.stderr)
        return 2
    logging.disable(logging.INFO)
    report(measure(args), args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
