"""The command ``pointins fit-prior``: fit the priors of offsets to a data set."""

import argparse
import datetime
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pointins_plugin.errors import UserError
from pointins_plugin.priors import (
    FAMILIES,
    DirectionPrior,
    MagnitudePrior,
    instance_offsets,
    ks_distance,
    label_free_offsets,
    thin,
)
from pointins_plugin.scenes import read_array, scene_problem

# The names Pointcept's preprocessing gives the semantic labels of a scene.
SEGMENT_FILES = ("segment.npy", "segment20.npy", "segment200.npy")

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    add = parser.add_argument
    add("data_root", metavar="DATA_ROOT", help="folder of SPLIT/SCENE/coord.npy")
    add("--split", default="train", help="subfolder to read (default: train)")
    add(
        "--source",
        choices=("labels", "hdbscan"),
        default="hdbscan",
        help="instance.npy, or clusters of the unlabelled clouds (default: hdbscan)",
    )
    add("--out", metavar="FILE", required=True, help="JSON file to write")
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
    add("--min-cluster-size", type=int, default=60, help="of HDBSCAN, in points")
    add(
        "--plane-threshold",
        type=float,
        default=0.02,
        help="half thickness of the planes taken out first, metres; 0 keeps them",
    )
    add("--max-points", type=int, default=20000, help="points used of a scene")
    add("--max-scenes", type=int, help="scenes used, evenly chosen (default: all)")
    add("--seed", type=int, default=0)


def run(words: Sequence[str] | None = None) -> None:
    """Fit, print what was found and write the JSON file.

    Args:
        words: the options; those of the command line when None.

    Raises:
        UserError: no such data, labels that do not match, or nothing to fit.
    """
    parser = argparse.ArgumentParser(
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
    scenes = find_scenes(args.data_root, args.split, args.max_scenes)
    generator = np.random.default_rng(args.seed)
    bar = tqdm(scenes, unit="scene", desc=args.source)
    if args.source == "labels":
        offsets = labelled_offsets(bar, args, generator)
    else:
        remove_planes = None
        if args.plane_threshold > 0:
            remove_planes = partial(
                plane_points, threshold=args.plane_threshold, seed=args.seed
            )
        offsets = label_free_offsets(
            (read_scene(folder, ("coord",))["coord"] for folder in bar),
            remove_planes,
            min_cluster_size=args.min_cluster_size,
            max_points=args.max_points,
            generator=generator,
        )
    lengths = np.linalg.norm(offsets, axis=1)
    provenance = {
        "data": f"{Path(args.data_root).resolve().name}/{args.split}",
        "source": args.source,
        "scenes": len(scenes),
        "count": len(lengths),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    prior = MagnitudePrior.fit(lengths, args.family, provenance)
    print("\n".join(report(offsets, lengths, len(scenes))))
    prior.save(args.out, DirectionPrior.empirical(offsets))
    print(f'wrote {args.out}; use it by prior=dict(type="file", path="{args.out}")')


def find_scenes(root: str | Path, split: str, limit: int | None = None) -> list[Path]:
    """Return the scene folders of a split, at most ``limit``, evenly chosen.

    Raises:
        UserError: no such folder, or none with a coord.npy in it.
    """
    folder = Path(root) / split
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; give the data root and --split one of its "
            "subfolders"
        )
    scenes = sorted(path.parent for path in folder.glob("*/coord.npy"))
    if not scenes:
        raise UserError(f"{folder}: no SCENE/coord.npy in it")
    if limit is not None and len(scenes) > limit:
        chosen = np.linspace(0, len(scenes) - 1, limit).round().astype(int)
        scenes = [scenes[i] for i in chosen]
    return scenes


def read_scene(folder: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the named arrays of a scene, checked.

    Raises:
        UserError: a missing or unreadable array, or a scene that cannot be used.
    """
    scene = {}
    for name in names:
        files = SEGMENT_FILES if name == "segment" else (f"{name}.npy",)
        path = next((folder / f for f in files if (folder / f).is_file()), None)
        if path is None:
            raise UserError(
                f"scene {folder} has no {' or '.join(files)}; without labels use "
                "--source hdbscan"
            )
        scene[name] = read_array(path)
    problem = scene_problem(scene)
    if problem:
        raise UserError(f"scene {folder} {problem}; mend it or take it out")
    return scene


def labelled_offsets(
    scenes: Iterator[Path] | list[Path],
    args: argparse.Namespace,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return the offsets (M, 3), metres, of the labelled instances of scenes."""
    names = ("coord", "instance", *(("segment",) if args.ignore_segments else ()))
    samples = []
    for folder in scenes:
        scene = read_scene(folder, names)
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
            f"{args.data_root}: no instance of {args.min_points} points or more in "
            f"split {args.split!r}; use --source hdbscan"
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
