"""What the offset branch adds to a training step: PointINS beside DOS.

    python benchmarks/branch_step.py [--config pointins/demo-pretrain] [--steps 20]

Both models take the same batches in turn; prints the medians, their ratio and the
spread, and writes JSON with --json FILE.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from datetime import date

import numpy as np
import torch

from pointins_plugin.host import Config, build_dataset, build_model, collate_fn
from pointins_plugin.paths import find_config


def step_time(model, optimizer, batch, seed: int) -> float:
    """Return the seconds of one forward, backward and optimizer step."""
    torch.manual_seed(seed)
    start = time.perf_counter()
    loss = model(copy.copy(batch))["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="pointins/demo-pretrain")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json")
    args = parser.parse_args()
    cfg = Config.fromfile(find_config(args.config))
    np.random.seed(0)
    dataset = build_dataset(cfg.data.train)
    batches = [
        collate_fn([dataset[2 * i + j] for j in range(cfg.batch_size)])
        for i in range(min(5, len(dataset) // 2))
    ]
    runs = {}
    for name, branch in (("PointINS", cfg.model.offset_branch), ("DOS", None)):
        torch.manual_seed(0)
        model = build_model({**cfg.model, "offset_branch": branch}).train()
        model.set_progress(0.5)
        runs[name] = (model, torch.optim.AdamW(model.parameters(), lr=1e-4), [])
    for step in range(args.steps + 2):
        for model, optimizer, times in runs.values():
            batch = batches[step % len(batches)]
            times.append(step_time(model, optimizer, batch, step))
    result = {}
    for name, (_, _, times) in runs.items():
        result[name] = {
            "median_s": statistics.median(times[2:]),
            "min_s": min(times[2:]),
            "max_s": max(times[2:]),
        }
    ratio = result["PointINS"]["median_s"] / result["DOS"]["median_s"]
    points = statistics.mean(len(batch["global_coord"]) for batch in batches)
    result |= {
        "ratio": ratio,
        "config": args.config,
        "points_a_step": points,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "date": date.today().isoformat(),
    }
    print("| step | median s | min | max |\n|---|---|---|---|")
    for name in runs:
        row = result[name]
        print(f"| {name} | {row['median_s']:.3f} | {row['min_s']:.3f} | ", end="")
        print(f"{row['max_s']:.3f} |")
    print(
        f"\nratio {ratio:.3f}, {points:.0f} points a step, {result['threads']} threads"
    )
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
