"""Share of training steps that wait for data: rooms and mOSD.

    python benchmarks/data_loading.py [--steps 20] [--json FILE]

The loader of a config, with its workers, feeds its model as in a run; both share the
machine. A step waits if its batch is not there within a twentieth of a step. The
first steps, for which the workers have had no time, do not count.
"""

import argparse
import os
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from alternation import absent, report

os.environ.setdefault("POINTINS_HOST", "standalone")

WARM = 3


def waits(name: str, steps: int) -> tuple[list[float], list[float]]:
    """Return the seconds each step took and waited before, for a config."""
    from pointins_plugin.host import Config, build_dataset, build_model, collate_fn
    from pointins_plugin.host.standalone.sampling import EpochSampler, SeededLoader
    from pointins_plugin.paths import find_config

    cfg = Config.fromfile(find_config(name))
    dataset = build_dataset(cfg.data.train)
    workers = cfg.num_worker
    sampler = EpochSampler(len(dataset), 0, True)
    loader = SeededLoader(
        dataset,
        partial(collate_fn),
        0,
        sampler,
        batch_size=cfg.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    torch.manual_seed(0)
    model = build_model(cfg.model).train()
    model.set_progress(0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    took, waited = [], []
    epoch = 0
    while len(took) < steps + WARM:
        sampler.set_epoch(epoch)
        epoch += 1
        batches = iter(loader)
        while len(took) < steps + WARM:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            ready = time.perf_counter()
            loss = model(batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            waited.append(ready - start)
            took.append(time.perf_counter() - ready)
    return took[WARM:], waited[WARM:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json")
    args = parser.parse_args()
    rows = []
    jobs = {"rooms": "pointins/demo-pretrain", "mOSD": "pointins/mosd-pretrain"}
    for data, name in jobs.items():
        what = f"data loading, {data}"
        if data == "mOSD" and not _has_mosd(name):
            rows.append(absent(what, "the step", "", "no data: set POINTINS_DATA"))
            continue
        took, waited = waits(name, args.steps)
        late = [w > t / 20 for t, w in zip(took, waited, strict=True)]
        share = 100 * sum(late) / len(late)
        rows.append(
            {
                **absent(what, "the step", f"{len(late)} steps", ""),
                "ours_ms": 1e3 * statistics.median(waited),
                "theirs_ms": 1e3 * statistics.median(took),
                "note": f"{share:.0f} % of steps wait",
                "waiting_percent": share,
            }
        )
    report(rows, args.json)


def _has_mosd(name: str) -> bool:
    from pointins_plugin.host import Config
    from pointins_plugin.paths import find_config

    root = Config.fromfile(find_config(name)).data.train.data_root
    return Path(root).is_dir()


if __name__ == "__main__":
    main()
