"""The command ``pointins demo``: pre-train on rooms and look at what was found."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.label_free import format_table
from pointins_plugin.hooks.label_free import LabelFreeInstanceEvaluator
from pointins_plugin.host import (
    TRAINERS,
    Config,
    collate_fn,
    default_config_parser,
    default_setup,
    plain_values,
)
from pointins_plugin.options import Parser, non_negative, positive
from pointins_plugin.paths import find_config
from pointins_plugin.pictures import save_panels
from pointins_plugin.ply import write_arrows_ply, write_ply

_CONFIG = "pointins/demo-pretrain"
# What each run has of its own.
_OF_A_RUN = ("save_path", "seed", "num_threads", "resume", "weight")


def run(words: Sequence[str]) -> None:
    """Pre-train, evaluate, print the table and write pictures and .ply files.

    Raises:
        UserError: a config that cannot be used or does not evaluate without labels, or
            another one than that of the run in the folder.
    """
    parser = Parser(
        prog="pointins demo",
        description="Pre-train a small network on procedural rooms, without labels, "
        "and show the instances that it finds in rooms it has not seen.",
    )
    parser.add_argument("--config", help=f"of a new run (default: {_CONFIG})")
    parser.add_argument("--out", default="exp/demo", help="folder of the run")
    parser.add_argument(
        "--seed", type=non_negative, help="seed (default: the config's)"
    )
    parser.add_argument("--scenes", type=non_negative, default=3, help="rooms to draw")
    parser.add_argument(
        "--fresh", action="store_true", help="start anew where a run was interrupted"
    )
    parser.add_argument(
        "--threads", type=positive, help="threads (default: torch's choice)"
    )
    args = parser.parse_args(words)

    start = time.perf_counter()
    trainer = _train(args)
    out = Path(args.out)
    result = json.loads((out / "label_free.json").read_text(encoding="utf-8"))
    files = [
        _show_scene(trainer, index, out)
        for index in range(min(args.scenes, len(trainer.val_loader.dataset)))
    ]
    minutes = (time.perf_counter() - start) / 60
    print(
        f"\n{result['scenes']} rooms not seen in training, seed {result['seed']}: "
        f"offset R^2 {result['offset_r2']:.2f}, cosine {result['offset_cosine']:.2f}\n"
    )
    print(format_table(result["methods"]))
    print(
        f"\n{minutes:.1f} minutes, {torch.get_num_threads()} threads, peak memory "
        f"{_peak_memory():.1f} GiB, torch {torch.__version__}"
    )
    print(f"model     {out / 'model' / 'model_last.pth'}")
    for picture, folder in files:
        print(f"picture   {picture}\n          {folder}/*.ply")


def _train(args: argparse.Namespace):
    last = Path(args.out) / "model" / "model_last.pth"
    options = {"save_path": args.out}
    for key, value in (("seed", args.seed), ("num_threads", args.threads)):
        if value is not None:
            options[key] = value
    source = find_config(args.config or _CONFIG)
    if last.is_file() and not args.fresh:
        if args.config and not same_config(source, Path(args.out) / "config.py"):
            raise UserError(
                f"--out {args.out} holds a run of another config than {args.config}: "
                "name another --out, or start anew by --fresh"
            )
        print(f"going on with the run in {args.out} (--fresh starts anew)", flush=True)
        source = str(Path(args.out) / "config.py")
        options = {**options, "resume": True, "weight": str(last)}
    _check_evaluates(source)
    cfg = default_setup(default_config_parser(source, options))
    trainer = TRAINERS.build({"type": cfg.train.type, "cfg": cfg})
    trainer.train()
    return trainer


def same_config(file: str | Path, written: str | Path) -> bool:
    """Return whether a run's ``config.py`` was written from a config."""
    given, run = Config.fromfile(str(file)), Config.fromfile(str(written))
    for cfg in (given, run):
        if "data" in cfg:
            cfg.data.train.loop = None  # follows from the epochs
    return all(
        key in run and plain_values(given[key]) == plain_values(run[key])
        for key in given
        if key not in _OF_A_RUN
    )


def _check_evaluates(file: str) -> None:
    cfg = Config.fromfile(file)
    hooks = cfg.get("hooks") or []
    kind = LabelFreeInstanceEvaluator.__name__
    if not cfg.get("evaluate") or all(hook.get("type") != kind for hook in hooks):
        raise UserError(
            f"config {file} does not evaluate without labels, and the demo shows "
            f"nothing else: add the hook {kind} and evaluate=True, or use `pointins "
            "train`"
        )


def _show_scene(trainer, index: int, out: Path) -> tuple[Path, Path]:
    """Draw one validation scene and write its files; return their places."""
    dataset = trainer.val_loader.dataset.dataset
    evaluator = next(
        hook for hook in trainer.hooks if isinstance(hook, LabelFreeInstanceEvaluator)
    )
    scene = dataset.get_data(index)
    with torch.random.fork_rng():
        np.random.seed(index)
        batch = trainer.to_device(collate_fn([dataset[index]]))
    trainer.model.eval()
    output = trainer.model.predict_offsets(batch)
    tokens = output["coord"].cpu().numpy()
    shift = output["shift"].float().cpu().numpy()
    grouping = evaluator.grouping
    plane = grouping.plane(tokens)
    shift = grouping.agree(tokens, shift, plane)
    found = grouping.instances(tokens, shift, plane)
    # Every point of the scan follows the nearest token.
    _, nearest = cKDTree(batch["origin_coord"].cpu().numpy()).query(scene["coord"])
    ply = out / "ply" / scene["name"]
    vectors = np.where(plane[:, None], 0, shift)
    write_ply(ply / "input.ply", scene["coord"], scene["color"], scene["normal"])
    write_ply(
        ply / "instances.ply",
        scene["coord"],
        scene["color"],
        instance=found[nearest],
        true_instance=scene["instance"],
    )
    kept = np.linalg.norm(vectors, axis=1) > 0
    origin = batch["origin_coord"].cpu().numpy()
    write_arrows_ply(ply / "offsets.ply", origin[kept], vectors[kept])
    picture = out / f"{scene['name']}.png"
    save_panels(
        picture,
        scene,
        vectors[nearest],
        found[nearest],
        gt=scene["instance"],
    )
    return picture, ply


def _peak_memory() -> float:
    """Return the largest resident size of this process so far, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**3 if sys.platform == "darwin" else 1024**2)
