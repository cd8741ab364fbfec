"""Training steps of the two backbones on CPU: ours beside Pointcept's with spconv.

    POINTCEPT_ROOT=... python benchmarks/backbones.py [--rounds 5] [--json FILE]

SpUNet-v1m1 as it is by default, forward and backward on 100,000 voxels, on one thread;
PT-v3m2 with the widths of Sonata's base halved, a whole training step on 20,000 tokens,
on two. Medians of rounds in which both sides take turns, after one to warm up. Both
start from one state dict. Pointcept's column needs a checkout and ``pip install
spconv==2.3.8``, whose CPU kernels are right on one thread only: they keep to one.
"""

import argparse
import json
import os
import platform
import statistics
import time
from datetime import date

# spconv brings an OpenMP of its own, which reads this when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
# Waiting threads sleep: two OpenMPs would spin against each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["POINTINS_HOST"] = "standalone"

import pointcept_backbones
import torch
from sparse_conv import room_voxels

from pointins_plugin.host.standalone.pt_v3m2 import PointTransformerV3
from pointins_plugin.host.standalone.spunet import SpUNetBase

HALF_SONATA = {
    "in_channels": 9,
    "order": ("z", "z-trans", "hilbert", "hilbert-trans"),
    "stride": (2, 2, 2, 2),
    "enc_depths": (3, 3, 3, 12, 3),
    "enc_channels": (24, 48, 96, 192, 256),
    "enc_num_head": (3, 6, 12, 24, 32),
    "enc_patch_size": (1024, 1024, 1024, 1024, 1024),
    "mlp_ratio": 4,
    "drop_path": 0.3,
    "enable_flash": False,
    "traceable": True,
    "enc_mode": True,
    "mask_token": True,
}


def unet_step(net, _, batch, gradient) -> None:
    """Forward and backward."""
    net.zero_grad(set_to_none=True)
    net(dict(batch)).backward(gradient)


def transformer_step(net, optimizer, batch, gradient) -> None:
    """Forward, backward and optimizer step."""
    optimizer.zero_grad()
    feat = net(dict(batch)).feat
    (feat * gradient[: len(feat)]).mean().backward()
    optimizer.step()


def measure(sides: dict, step, batch: dict, gradient, rounds: int) -> dict:
    """Return median seconds of each side, and their ratio."""
    runs = {}
    for name, net in sides.items():
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
        runs[name] = (net.train(), optimizer, [])
    for i in range(rounds + 1):
        for net, optimizer, seconds in runs.values():
            torch.manual_seed(i)
            start = time.perf_counter()
            step(net, optimizer, batch, gradient)
            seconds.append(time.perf_counter() - start)
    result = {
        name: {
            "median_s": statistics.median(seconds[1:]),
            "min_s": min(seconds[1:]),
            "max_s": max(seconds[1:]),
        }
        for name, (_, _, seconds) in runs.items()
    }
    if len(result) == 2:
        own, theirs = (row["median_s"] for row in result.values())
        result["ratio"] = own / theirs
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--voxels", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--only", choices=["SpUNet-v1m1", "PT-v3m2"])
    parser.add_argument("--json")
    args = parser.parse_args()
    pointcept = pointcept_backbones.load()
    jobs = {
        "SpUNet-v1m1": (
            1,
            args.voxels,
            {"in_channels": 9, "num_classes": 0},
            SpUNetBase,
            unet_step,
        ),
        "PT-v3m2": (
            2,
            args.tokens,
            HALF_SONATA,
            PointTransformerV3,
            transformer_step,
        ),
    }
    result = {}
    print("| backbone | points | threads | ours s | Pointcept s | ours / Pointcept |")
    print("|---|---|---|---|---|---|")
    for name, (threads, points, config, ours, step) in jobs.items():
        if args.only not in (None, name):
            continue
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        sides = {"own": ours(**config)}
        if pointcept is not None:
            sides["pointcept"] = getattr(pointcept, ours.__name__)(**config)
            sides["pointcept"].load_state_dict(sides["own"].state_dict())
        cells = room_voxels(points)
        batch = {
            "coord": cells * 0.02,
            "grid_coord": cells.int(),
            "grid_size": 0.02,
            "feat": torch.randn(points, 9),
            "offset": torch.tensor([points]),
        }
        width = 96 if name == "SpUNet-v1m1" else HALF_SONATA["enc_channels"][-1]
        gradient = torch.randn(points, width)
        row = result[name] = measure(sides, step, batch, gradient, args.rounds)
        row |= {"points": points, "threads": threads}
        columns = [
            "{median_s:.2f} ({min_s:.2f} to {max_s:.2f})".format(**row[side])
            if side in row
            else "not available"
            for side in ("own", "pointcept")
        ]
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        row = [name, points, threads, *columns, ratio]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    result |= {
        "rounds": args.rounds,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "date": date.today().isoformat(),
    }
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
