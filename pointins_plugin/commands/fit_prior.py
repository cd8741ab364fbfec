"""The command ``pointins fit-prior``: fit the priors of offsets to a data set."""

import argparse
import datetime
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pointins_plugin.errors import UserError
from pointins_plugin.options import Parser, length, non_negative
from pointins_plugin.priors import (
    FAMILIES,
    DirectionPrior,
    MagnitudePrior,
    instance_offsets,
    ks_distance,
    label_free_offsets,
    thin,
)
from pointins_plugin.scenes import read_array, scene_folders, scene_problem

# The names Pointcept's preprocessing gives the semantic labels of a scene.
SEGMENT_FILES = ("segment.npy", "segment20.npy", "segment200.npy")

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    add = parser.add_argument
    add(
        "data_root",
        metavar="DATA_ROOT",
        nargs="?",
        help="folder of SPLIT/SCENE/coord.npy",
    )
    add(
        "--config",
        metavar="FILE",
        help="config whose training data are read instead, of any data set",
    )
    add(
        "--split",
        help="subfolder (wildcards allowed) or json list of scenes (default: train), "
        "or the split of the config's data (default: the config's)",
    )
    add(
        "--source",
        choices=("labels", "hdbscan"),
        default="hdbscan",
        help="instance.npy, or clusters of the unlabelled clouds (default: hdbscan)",
    )
    add("--out", metavar="FILE", required=True, help="JSON file to write")
    add(
        "--hdbscan",
        action="store_const",
        const="hdbscan",
        dest="source",
        help="short for --source hdbscan",
    )
    add(
        "--family",
        choices=FAMILIES,
        default="empirical",
        help="what to fit; empirical keeps the quantiles (default: empirical)",
    )
    add("--min-points", type=int, default=10, help="smallest labelled instance")
    add(
        "--ignore-segments",
        type=int,
        nargs="+",
        default=(),
        metavar="CLASS",
        help="classes whose instances do not count, e.g. walls and floors",
    )
    add(
        "--min-cluster-size",
        type=int,
        default=60,
        help="of HDBSCAN, in points, with --grid-size in cells, of which a thing has "
        "fewer: 15 for LiDAR (default: 60)",
    )
    add(
        "--plane-threshold",
        type=length,
        help="half thickness of the planes taken out first, metres; 0 keeps them "
        "(default: 0.02, with --ground-height 0)",
    )
    add(
        "--ground-height",
        type=float,
        metavar="METRES",
        help="outdoors: take out what is lower than this above the ground, which may "
        "slope (0.3, say)",
    )
    add(
        "--grid-size",
        type=float,
        metavar="METRES",
        help="one point a cell of this size, as tokens are: without, what is near a "
        "LiDAR and has most of its points sets the lengths (default: all points)",
    )
    add("--max-points", type=int, default=20000, help="points used of a scene")
    add("--max-scenes", type=int, help="scenes used, evenly chosen (default: all)")
    add("--seed", type=non_negative, default=0)


def run(words: Sequence[str] | None = None) -> None:
    """Fit, print what was found and write the JSON file.

    Args:
        words: the options; those of the command line when None.

    Raises:
        UserError: no such data, labels that do not match, or nothing to fit.
    """
    parser = Parser(
        "pointins fit-prior", description="Fit the priors of offsets to a data set."
    )
    add_arguments(parser)
    args = parser.parse_args(words)
    for name in ("min_points", "min_cluster_size", "max_points", "max_scenes"):
        value = getattr(args, name)
        if value is not None and value < 2:
            raise UserError(f"--{name.replace('_', '-')} must be 2 or more")
    if Path(args.out).is_dir():
        raise UserError(f"--out {args.out}: is a folder; name a file in it")
    if args.ignore_segments and args.source != "labels":
        raise UserError(
            "--ignore-segments is of labels, which --source hdbscan does not read: add "
            "--source labels, or leave it out"
        )
    if args.ground_height is not None and not args.ground_height > 0:
        raise UserError("--ground-height must be above 0, in metres")
    if args.grid_size is not None and not args.grid_size > 0:
        raise UserError("--grid-size must be above 0, in metres")
    if (args.data_root is None) == (args.config is None):
        raise UserError("fit-prior needs either DATA_ROOT or --config FILE")
    scenes, where = find_data(args)
    if args.grid_size is not None:
        scenes = [partial(read_cells, read, args.grid_size) for read in scenes]
    generator = np.random.default_rng(args.seed)
    bar = tqdm(scenes, unit="scene", desc=args.source)
    if args.source == "labels":
        offsets = labelled_offsets(bar, args, generator)
    else:
        offsets = label_free_offsets(
            (read(("coord",))["coord"] for read in bar),
            background(args),
            min_cluster_size=args.min_cluster_size,
            max_points=args.max_points,
            generator=generator,
        )
    lengths = np.linalg.norm(offsets, axis=1)
    provenance = {
        "data": where,
        "source": args.source,
        "grid_size": args.grid_size,
        "scenes": len(scenes),
        "count": len(lengths),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    prior = MagnitudePrior.fit(lengths, args.family, provenance)
    print("\n".join(report(offsets, lengths, len(scenes))))
    prior.save(args.out, DirectionPrior.empirical(offsets))
    print(f"wrote {args.out}; use it by -o model.offset_branch.prior={args.out}")


# Reads the named arrays of one scene.
Reader = Callable[[tuple[str, ...]], dict[str, np.ndarray]]


def find_data(args: argparse.Namespace) -> tuple[list[Reader], str]:
    """Return what reads each scene, and the name of the data."""
    if args.config is None:
        split = args.split or "train"
        folders = scene_folders(args.data_root, split, "name another --split")
        where = f"{Path(args.data_root).resolve().name}/{split}"
        chosen = evenly(folders, args.max_scenes)
        return [partial(read_scene, Path(folder)) for folder in chosen], where
    dataset, crop = config_data(args.config, args.source == "labels", args.split)
    chosen = evenly(range(len(dataset.data_list)), args.max_scenes)
    name = f"{Path(args.config).stem}/{dataset.split}"
    return [partial(read_sample, dataset, crop, index) for index in chosen], name


def config_data(
    config: str, labels: bool, split: str | None = None
) -> tuple[Any, Callable]:
    """Return the training data of a config, and its crop by range (or nothing).

    Args:
        config: name or file.
        labels: whether they are read.
        split: read in place of the config's own.
    """
    from pointins_plugin.host import Compose, Config, build_dataset
    from pointins_plugin.paths import find_config

    cfg = Config.fromfile(find_config(config)).data.train
    crop = [step for step in cfg.get("transform", []) if step["type"] == "RangeCrop"]
    known = {"labels": labels} if "labels" in cfg else {}
    if split is not None:
        known["split"] = split
    return build_dataset({**cfg, **known, "transform": []}), Compose(crop)


def read_sample(
    dataset: Any, crop: Callable, index: int, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Return the named arrays of a sample of a data set.

    Raises:
        UserError: it has no such array.
    """
    sample = crop(dataset.get_data(index))
    for name in names:
        if name not in sample:
            raise UserError(
                f"scene {sample['name']} has no {name}; without labels use --source "
                "hdbscan"
            )
    return {name: sample[name] for name in names}


def read_cells(
    read: Reader, grid_size: float, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Return the named arrays of a scene for one point of each cell, in their order."""
    scene = read(("coord", *(name for name in names if name != "coord")))
    coord = np.asarray(scene["coord"], np.float64)
    rows = np.flatnonzero(np.isfinite(coord).all(axis=1))
    cell = np.floor(coord[rows] / grid_size).astype(np.int64)
    _, first = np.unique(cell, axis=0, return_index=True)
    return {name: scene[name][rows[np.sort(first)]] for name in names}


def evenly(items: Sequence, limit: int | None) -> list:
    """Return at most ``limit`` of the items, evenly chosen."""
    if limit is None or len(items) <= limit:
        return list(items)
    chosen = np.linspace(0, len(items) - 1, limit).round().astype(int)
    return [items[i] for i in chosen]


def background(args: argparse.Namespace) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what finds the points (N,) of ground and planes, or None."""
    planes = args.plane_threshold
    if planes is None:
        planes = 0.02 if args.ground_height is None else 0.0
    if args.ground_height is None and not planes > 0:
        return None

    def find(coord: np.ndarray) -> np.ndarray:
        found = np.zeros(len(coord), bool)
        if args.ground_height is not None:
            from pointins_plugin.ops.ground import ground_points

            found = ground_points(coord, args.ground_height)
        if planes > 0 and not found.all():
            rest = np.flatnonzero(~found)
            found[rest] = plane_points(coord[rest], planes, args.seed)
        return found

    return find


def read_scene(folder: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the named arrays of a scene, checked.

    Raises:
        UserError: a missing or unreadable array, or a scene that cannot be used.
    """
    scene = {}
    for name in names:
        files = SEGMENT_FILES if name == "segment" else (f"{name}.npy",)
        path = next((folder / f for f in files if (folder / f).is_file()), None)
        if path is not None:
            scene[name] = read_array(path)
        elif name != "coord":
            raise UserError(
                f"scene {folder} has no {' or '.join(files)}; without labels use "
                "--source hdbscan"
            )
    problem = scene_problem(scene)
    if problem:
        raise UserError(f"scene {folder} {problem}; mend it or take it out")
    return scene


def labelled_offsets(
    scenes: Iterable[Reader],
    args: argparse.Namespace,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return the offsets (M, 3), metres, of the labelled instances of scenes."""
    names = ("coord", "instance", *(("segment",) if args.ignore_segments else ()))
    samples = []
    for read in scenes:
        scene = read(names)
        coord = scene["coord"]
        instance = scene["instance"].reshape(-1).astype(np.int64)
        if args.ignore_segments:
            ignored = np.isin(scene["segment"].reshape(-1), args.ignore_segments)
            instance[ignored] = -1
        offsets = instance_offsets(coord, instance, args.min_points)
        if len(offsets) > args.max_points:
            offsets = generator.choice(offsets, args.max_points, replace=False)
        samples.append(offsets)
    offsets = np.concatenate(samples)
    if not len(offsets):
        raise UserError(
            f"{args.data_root or args.config}: no instance of {args.min_points} points "
            f"or more in split {args.split!r}; use --source hdbscan"
        )
    return offsets


def plane_points(coord: np.ndarray, threshold: float, seed: int) -> np.ndarray:
    """Return the mask (N,) of points on the dominant planes of a cloud (N, 3)."""
    import torch

    from pointins_plugin.ops.planes import dominant_planes

    # Map coordinates are too large for the millimetres of float32.
    centred = (coord - coord.mean(axis=0)).astype(np.float32)
    return dominant_planes(
        torch.from_numpy(centred),
        torch.tensor([len(coord)]),
        threshold=threshold,
        generator=torch.Generator().manual_seed(seed),
    ).numpy()


def report(offsets: np.ndarray, lengths: np.ndarray, num_scenes: int) -> list[str]:
    """Return the lines that describe offsets (M, 3) and the fit of every family."""
    lines = [f"{len(lengths):,} offsets in {num_scenes} scenes"]
    values = np.quantile(lengths, QUANTILES)
    lines.append("percentile  " + "".join(f"{100 * q:>8.0f}" for q in QUANTILES))
    lines.append("length (m)  " + "".join(f"{value:8.3f}" for value in values))
    positive = thin(lengths[lengths > 0])
    lines.append(f"{'family':<12}{'KS':>8}  parameters")
    for family in FAMILIES:
        try:
            prior = MagnitudePrior.fit(positive, family)
        except UserError as error:
            lines.append(f"{family:<12}{'-':>8}  {error}")
            continue
        named = prior.provenance.get("parameters", {})
        text = ", ".join(f"{name}={value:.4g}" for name, value in named.items())
        lines.append(f"{family:<12}{ks_distance(positive, prior):8.3f}  {text}")
    unit = offsets[lengths > 0] / lengths[lengths > 0, None]
    share = (unit**2).mean(axis=0)
    lines.append(
        "direction   mean square of x, y, z: "
        + " ".join(f"{value:.2f}" for value in share)
        + " (uniform: 0.33)"
    )
    return lines
