"""Sparse convolution on one CPU thread: ours beside spconv's.

    python benchmarks/sparse_conv.py [--points 100000] [--rounds 5]

Parts of SpUNet on the voxels of a generated room, in random order: seconds of forward,
which builds the neighbour map, and of backward. Medians of rounds in which both sides
take turns, after one to warm up; both compute the same from the same weights. spconv's
column needs ``pip install spconv==2.3.8`` (a CPU wheel, right on one thread only).
Writes JSON with --json FILE.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import statistics
import time
from datetime import date

# spconv brings an OpenMP of its own, which reads this when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from pointins_plugin.datasets.rooms import make_room
from pointins_plugin.host.standalone import convolutions
from pointins_plugin.host.standalone.modules import PointSequential
from pointins_plugin.host.standalone.point import Point

# part: input channels and layers, as (class, arguments)
_SHARED = {"bias": False, "indice_key": "key"}
PARTS = {
    "stem, 5x5x5, 6 to 32": (6, [("SubMConv3d", (6, 32, 5))]),
    "4 layers 3x3x3 of 32": (32, [("SubMConv3d", (32, 32, 3))] * 4),
    "4 layers 3x3x3 of 96": (96, [("SubMConv3d", (96, 96, 3))] * 4),
    "down and up, 2x2x2, 32 to 64": (
        32,
        [("SparseConv3d", (32, 64, 2, 2)), ("SparseInverseConv3d", (64, 32, 2))],
    ),
}


def room_voxels(num: int, voxel: float = 0.02, seed: int = 0) -> torch.Tensor:
    """Return ``num`` occupied cells (num, 3) around a point of a room, shuffled."""
    room = make_room(
        "train", seed, voxel=voxel / 2, num_viewpoints=8, angular_step=0.25
    )
    cells = np.unique(np.floor(room["coord"] / voxel).astype(np.int64), axis=0)
    if len(cells) < num:
        raise SystemExit(f"the room has {len(cells)} voxels, fewer than {num}")
    rng = np.random.default_rng(seed)
    distance = np.square(cells - cells[rng.integers(len(cells))]).sum(axis=1)
    cells = cells[rng.permutation(np.argsort(distance, kind="stable")[:num])]
    return torch.from_numpy(cells - cells.min(axis=0))


def own_side(part: str):
    """Return the layers, and what runs them on features and voxels."""
    layers = [
        getattr(convolutions, name)(*arguments, **_SHARED)
        for name, arguments in PARTS[part][1]
    ]
    sequence = PointSequential(*layers)

    def run(feat, cells):
        return sequence(Point(feat=feat, grid_coord=cells)).feat

    return sequence, run


def spconv_side(part: str):
    """The same by spconv."""
    import spconv.pytorch as spconv
    import spconv.pytorch.ops as ops

    ops.get_current_stream = lambda: 0  # its CPU backward asks for a CUDA stream
    layers = [
        getattr(spconv, name)(*arguments, **_SHARED)
        for name, arguments in PARTS[part][1]
    ]
    sequence = spconv.SparseSequential(*layers)

    def run(feat, cells):
        indices = torch.cat([torch.zeros_like(cells[:, :1]), cells], dim=1).int()
        shape = (cells.max(dim=0).values + 96).tolist()
        return sequence(spconv.SparseConvTensor(feat, indices, shape, 1)).features

    return sequence, run


def measure(part: str, cells: torch.Tensor, rounds: int) -> dict:
    """Return median seconds of forward and backward of each side, and their ratio."""
    sides = {"own": own_side(part)}
    if importlib.util.find_spec("spconv") is not None:
        sides["spconv"] = spconv_side(part)
        sides["spconv"][0].load_state_dict(sides["own"][0].state_dict())
    torch.manual_seed(0)
    channels, layers = PARTS[part]
    # A stem's input has no gradient.
    feat = torch.randn(len(cells), channels, requires_grad=len(layers) > 1)
    gradient = torch.randn(len(cells), layers[-1][1][1])
    seconds = {name: ([], []) for name in sides}
    for _ in range(rounds + 1):
        outputs = []
        for name, (_, run) in sides.items():
            start = time.perf_counter()
            output = run(feat, cells)
            middle = time.perf_counter()
            output.backward(gradient)
            seconds[name][0].append(middle - start)
            seconds[name][1].append(time.perf_counter() - middle)
            outputs.append(output.detach())
        scale = outputs[0].abs().max().item()
        for output in outputs[1:]:
            torch.testing.assert_close(output, outputs[0], rtol=0, atol=1e-5 * scale)
    result = {}
    for name, (forward, backward) in seconds.items():
        both = [a + b for a, b in zip(forward[1:], backward[1:], strict=True)]
        result[name] = {
            "forward_s": statistics.median(forward[1:]),
            "backward_s": statistics.median(backward[1:]),
            "both_s": statistics.median(both),
        }
    if "spconv" in result:
        result["ratio"] = result["own"]["both_s"] / result["spconv"]["both_s"]
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cells = room_voxels(args.points)
    parts = {}
    print("| part | ours s (forward + backward) | spconv s | ours / spconv |")
    print("|---|---|---|---|")
    for part in PARTS:
        row = parts[part] = measure(part, cells, args.rounds)
        columns = [
            "{both_s:.2f} ({forward_s:.2f} + {backward_s:.2f})".format(**row[name])
            if name in row
            else "not installed"
            for name in ("own", "spconv")
        ]
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        print(f"| {part} | {columns[0]} | {columns[1]} | {ratio} |", flush=True)
    result = {
        "parts": parts,
        "points": args.points,
        "rounds": args.rounds,
        "threads": 1,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "date": date.today().isoformat(),
    }
    print(f"\n{args.points} voxels, 1 thread, {args.rounds} rounds")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
