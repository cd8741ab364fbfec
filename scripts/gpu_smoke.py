"""Does training run on this GPU, how fast, in how much memory? One command says so.

    python scripts/gpu_smoke.py [--scenes 4] [--steps 20] [--json FILE]
    python scripts/gpu_smoke.py --device cpu --quick      # that the script itself runs

The network is Sonata's base (108 M parameters) at its full size, the data are
procedural rooms. On each host that is installed, the standalone one and, with
POINTCEPT_ROOT, Pointcept, and in float32, float16 and bfloat16 it trains PointINS with
and without its branch, on Pointcept also the stock ``Sonata-v1m1``: forward, backward
with clipping, optimizer step. A row has the median step, points of global views a
second, peak memory, and ``ok`` or what went wrong. Exit status: 0 if all rows are ok,
1 if one is not, 2 where there is no GPU.
"""

import argparse
import copy
import importlib.util
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

HOSTS = ("standalone", "pointcept")
DTYPES = ("float32", "float16", "bfloat16")
STOCK, PLAIN, WHOLE = "Sonata-v1m1", "PointINS, no branch", "PointINS"
EXAMPLE = ROOT / "docs" / "examples" / "sonata-rooms-with-branch.py"


def configure(args: argparse.Namespace) -> Any:
    """Return the config of PointINS with its branch, of the size asked for."""
    from pointins_plugin.host import Config

    cfg = Config.fromfile(str(EXAMPLE))
    size = 2048
    if not args.quick:
        base = Config.fromfile(
            str(ROOT / "configs" / "pointins" / "scannet-pretrain-sonata-offset.py")
        )
        grid, size = base.grid_size, 65536
        cfg.model.update(
            backbone=base.model.backbone,
            head_in_channels=sum(base.model.backbone.enc_channels[-3:]),
            head_hidden_channels=4096,
            head_embed_channels=256,
            head_num_prototypes=4096,
            up_cast_level=2,
            mask_size_start=0.1,
            mask_size_base=0.4,
            mask_jitter=grid / 2,
            match_max_r=0.32,
        )
        for step in cfg.data.train.transform:
            if step["type"] == "GridSample":
                step["grid_size"] = grid
            elif step["type"] == "Update":
                step["keys_dict"] = {"grid_size": grid}
    for step in cfg.data.train.transform:
        if "max_size" in step:
            step["max_size"] = args.max_size or size
    flash = importlib.util.find_spec("flash_attn") is not None
    cfg.model.backbone.enable_flash = flash and args.device == "cuda"
    return cfg


def variant(model: dict, kind: str) -> dict:
    """Return the config of one of the models compared."""
    model = copy.deepcopy(dict(model))
    if kind == STOCK:
        del model["offset_branch"]
        model["type"] = "Sonata-v1m1"
    elif kind == PLAIN:
        model["offset_branch"] = None
    return model


def settle(model: Any) -> None:
    """Bring every schedule to where it stays for most of a training."""
    if hasattr(model, "set_progress"):
        model.set_progress(0.5)
    else:
        for name in ("mask_size", "mask_ratio", "teacher_temp"):
            setattr(model, name, getattr(model, f"{name}_base"))


def batches(cfg: Any, args: argparse.Namespace) -> list[dict]:
    """Return batches on the device, and how many points their global views have."""
    from pointins_plugin.host import build_dataset, collate_fn

    np.random.seed(0)
    dataset = build_dataset(cfg.data.train)
    found = []
    for start in range(0, (1 if args.quick else 3) * args.scenes, args.scenes):
        batch = collate_fn([dataset[start + i] for i in range(args.scenes)])
        for key, value in batch.items():
            if isinstance(value, torch.Tensor):
                batch[key] = value.to(args.device)
        found.append(batch)
    return found


def wait(device: str) -> None:
    """Wait until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def train(config: dict, dtype: str, data: list[dict], args: Any) -> dict:
    """Train some steps and return what was seen."""
    from pointins_plugin.host import build_model

    torch.manual_seed(0)
    model = build_model(config).to(args.device).train()
    settle(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(args.device, enabled=dtype == "float16")
    amp = torch.autocast(args.device, getattr(torch, dtype), enabled=dtype != "float32")
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times, losses = [], []
    for index in range(args.steps + 2):
        torch.manual_seed(index)
        wait(args.device)
        start = time.perf_counter()
        with amp:
            loss = model(copy.copy(data[index % len(data)]))["loss"]
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        scaler.step(optimizer)
        scaler.update()
        wait(args.device)
        times.append(time.perf_counter() - start)
        losses.append(loss.item())
    finite = all(map(math.isfinite, losses))
    # A loss scaler may skip its first steps, not its last.
    finite = finite and math.isfinite(norm.item())
    peak = torch.cuda.max_memory_allocated() / 2**30 if args.device == "cuda" else None
    step = statistics.median(times[2:])
    points = statistics.mean(len(batch["global_coord"]) for batch in data)
    return {
        "step_ms": 1e3 * step,
        "points_per_s": points / step,
        "peak_gib": peak,
        "loss": losses[-1],
        "status": "ok" if finite else "loss or gradient is not finite",
    }


def run_host(args: argparse.Namespace) -> list[dict]:
    """Return the rows of the host that this process has."""
    import pointins_plugin  # noqa: F401  registers itself
    from pointins_plugin.host import HOST

    logging.disable(logging.INFO)
    cfg = configure(args)
    data = batches(cfg, args)
    kinds = (STOCK, PLAIN, WHOLE) if HOST == "pointcept" else (PLAIN, WHOLE)
    rows = []
    for dtype in args.dtypes:
        for kind in kinds:
            row = {"host": HOST, "model": kind, "dtype": dtype}
            try:
                row |= train(variant(cfg.model, kind), dtype, data, args)
            except Exception as error:  # the next row may well run
                text = f"{type(error).__name__}: {error}".splitlines()[0]
                row["status"] = text
            rows.append(row)
            if args.device == "cuda":
                torch.cuda.empty_cache()
    return rows


def hosts() -> list[str]:
    """Return the hosts that can be used here."""
    from pointins_plugin.host.locate import pointcept_error

    return [*HOSTS[:1], *(HOSTS[1:] if pointcept_error() is None else ())]


def ask(host: str, words: list[str]) -> list[dict]:
    """Run this script in a process of one host and return its rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        environment = {**os.environ, "POINTINS_HOST": host}
        if host == "standalone":
            environment.pop("POINTCEPT_ROOT", None)
        done = subprocess.run(
            [sys.executable, __file__, *words, "--rows-of", host, "--json", file],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if file.is_file():
            return json.loads(file.read_text())["rows"]
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [{"host": host, "model": "-", "dtype": "-", "status": reason}]


def show(rows: list[dict]) -> None:
    """Print a Markdown table."""
    keys = ("host", "model", "dtype", "step_ms", "points_per_s", "peak_gib", "loss")
    keys = (*keys, "status")
    print(f"| {' | '.join(keys)} |\n|{'---|' * len(keys)}")
    for row in rows:
        cells = [row.get(key) for key in keys]
        texts = [
            "-" if c is None else f"{c:.4g}" if isinstance(c, float) else c
            for c in cells
        ]
        print(f"| {' | '.join(texts)} |")


def machine(device: str) -> dict[str, Any]:
    """Return what the numbers were measured on."""
    found: dict[str, Any] = {"torch": torch.__version__, "device": device}
    if device == "cuda":
        found["device"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
        for package in ("flash_attn", "spconv"):
            found[package] = importlib.util.find_spec(package) is not None
    return found


def write(path: str, content: Any) -> None:
    """Write JSON, whole or not at all."""
    with open(f"{path}.tmp", "w", encoding="utf-8") as out:
        json.dump(content, out, indent=1)
    os.replace(f"{path}.tmp", path)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small network, 2 steps")
    parser.add_argument("--scenes", type=int, help="of a batch (4; quick: 1)")
    parser.add_argument("--steps", type=int, help="measured ones (20; quick: 2)")
    parser.add_argument("--max-size", type=int, help="points of a view at most")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES)
    parser.add_argument("--hosts", nargs="+", choices=HOSTS)
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--rows-of", choices=HOSTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.scenes = args.scenes or (1 if args.quick else 4)
    args.steps = args.steps or (2 if args.quick else 20)
    # float16 is for GPUs: few CPUs compute in it.
    args.dtypes = args.dtypes or (DTYPES if args.device == "cuda" else DTYPES[::2])
    return args


def main() -> int:
    """Run every host in a process of its own, print and write the rows."""
    args = parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu_smoke: needs a CUDA GPU and a CUDA build of torch (this one is "
            f"{torch.__version__}); --device cpu --quick tries the script without",
            file=sys.stderr,
        )
        return 2
    if args.rows_of:
        write(args.json, {"rows": run_host(args)})
        return 0
    rows = [row for host in args.hosts or hosts() for row in ask(host, sys.argv[1:])]
    show(rows)
    about = machine(args.device)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    if args.json:
        write(args.json, {"machine": about, "rows": rows})
    return int(any(row["status"] != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
