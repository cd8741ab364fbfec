"""The command ``pointins predict``: instances of clouds, without labels."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pointins_plugin.clouds import SUFFIXES, UP_AXES, Frame, read_cloud
from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.grouping import Grouping
from pointins_plugin.files import write_whole
from pointins_plugin.ops.proposals import GROUPINGS
from pointins_plugin.options import Parser, finite, length, positive
from pointins_plugin.pictures import instance_colors, save_panels
from pointins_plugin.ply import write_ply
from pointins_plugin.prediction import Prediction, predict_instances
from pointins_plugin.pretrained import Pretrained, read_pretrained
from pointins_plugin.scale_check import scale_doubt
from pointins_plugin.scene_transform import SceneTransform
from pointins_plugin.scenes import color_range

FORMATS = ("ply", "npz")
_DRAWN = 200_000  # points of a picture
_REACH = 4  # width of a tile's margin, in typical offsets
_SCENE = 24  # width of a scene, in typical offsets: 10 m of rooms, 1.6 m of a table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    add = parser.add_argument
    add("clouds", nargs="+", metavar="CLOUD", help=f"{' '.join(SUFFIXES)} or a folder")
    add("-w", "--weight", required=True, help="checkpoint or exported encoder")
    add("-o", "--out", default="predictions", help="folder, or a .ply or .npz file")
    add("--format", choices=FORMATS, help="of files in the folder (default: ply)")
    add("--no-picture", action="store_true", help="do not draw a .png beside it")
    add("--keep-color", action="store_true", help="the .ply keeps the cloud's colours")
    add("--config-file", help="name or file, of a checkpoint without its config.py")
    add("--branch", choices=("student", "teacher"), help="default: teacher")
    cloud = parser.add_argument_group("the cloud")
    add = cloud.add_argument
    add("--columns", metavar="A,B,...", help="of .npy .bin .txt: x,y,z,red,_,nx,...")
    add("--units", default="m", help="m, cm, mm, ft, in, km or metres (default: m)")
    add("--up", choices=UP_AXES, default="z", help="axis that points up (default: z)")
    add(
        "--viewpoint",
        type=finite,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="of the sensor, that estimated normals face",
    )
    grouping = parser.add_argument_group(
        "grouping (default: what the run's config says)"
    )
    add = grouping.add_argument
    add("--method", choices=GROUPINGS, help="of grouping (default: components)")
    add("--radius", type=length, help="of components, metres")
    add("--bandwidth", type=length, help="of modes, metres")
    add("--min-size", type=positive, help="fewest cells of an instance")
    add("--keep-planes", action="store_true", help="walls, floors and ground take part")
    tiles = parser.add_argument_group("large clouds")
    add = tiles.add_argument
    add(
        "--tile-cells",
        type=positive,
        default=20000,
        help="cells of a part (default: 20000)",
    )
    add("--overlap", type=length, help=f"metres (default: {_REACH} typical offsets)")
    add("--device", help="cpu, cuda, ... (default: cuda if there is one)")


def run(words: Sequence[str] | None = None) -> None:
    """Predict clouds and write their files.

    Args:
        words: the options; those of the command line when None.

    Raises:
        UserError: weights or a cloud that cannot be used, or files that cannot be
            written; the clouds before it are written.
    """
    parser = Parser(
        "pointins predict",
        description="Find the instances of point clouds without labels, and write "
        "them with the predicted offsets.",
    )
    add_arguments(parser)
    args = parser.parse_args(words)
    outputs = output_paths(args.clouds, args.out, args.format)
    frame = Frame.of(args.units, args.up)
    columns = None if args.columns is None else args.columns.replace(" ", "").split(",")
    pretrained = read_pretrained(args.weight, *_branch(args))
    if pretrained.grouping is None:
        raise UserError(
            f"{args.weight} predicts no offsets: it was trained without the offset "
            "branch, or exported without its head"
        )
    grouping = _grouping(pretrained.grouping, args)
    unit = pretrained.spec["offset_head"]["unit"]
    overlap = _REACH * unit if args.overlap is None else args.overlap
    model = pretrained.build().to(_device(args.device))
    transform = SceneTransform(_recipe(pretrained, args, frame))
    for path, output in zip(args.clouds, outputs, strict=True):
        start = time.perf_counter()
        cloud = read_cloud(path, columns)
        kept = _finite(cloud)
        seen = cloud if kept is None else {k: v[kept] for k, v in cloud.items()}
        if "color" in seen and color_range(seen["color"]) == "0-1":
            cloud["color"] = 255 * cloud["color"]
            seen["color"] = 255 * seen["color"] if kept is not None else cloud["color"]
        scene = frame.metres(seen)
        doubt = scale_doubt(
            scene["coord"], pretrained.recipe.grid_size, _SCENE * unit, frame.scale
        )
        if doubt:
            print(f"pointins: {path}: {doubt}", file=sys.stderr)
        try:
            found = predict_instances(
                model,
                transform,
                scene,
                grouping,
                args.tile_cells,
                overlap,
                _SCENE * unit,
                lambda parts: tqdm(parts, unit="part", disable=len(parts) < 3),
            )
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        shift = frame.back(found.shift)
        _write(output, cloud, found, shift, kept, args.keep_color)
        if not args.no_picture:
            _draw(output.with_suffix(".png"), frame, seen, found)
        _tell(path, output, found, len(cloud["coord"]), time.perf_counter() - start)


def output_paths(clouds: Sequence[str], out: str, kind: str | None) -> list[Path]:
    """Return the file to write for each cloud.

    Raises:
        UserError: one file for several clouds or of another format than is asked for,
            or two clouds of one name.
    """
    place = Path(out)
    if place.suffix in (".ply", ".npz"):
        if len(clouds) > 1:
            raise UserError(
                f"--out {out} is one file, but {len(clouds)} clouds are given; name a "
                "folder"
            )
        if kind not in (None, place.suffix[1:]):
            raise UserError(
                f"--out {out} is not what --format {kind} says; leave one of them out"
            )
        paths = [place]
    else:
        # "." and ".." are no names
        names = [Path(os.path.abspath(cloud)).name for cloud in clouds]
        paths = [place / f"{_stem(name)}.{kind or FORMATS[0]}" for name in names]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UserError(
                f"two clouds would be written to {path}; predict them into different "
                "folders"
            )
        if any(path.resolve() == Path(cloud).resolve() for cloud in clouds):
            raise UserError(f"{path} is itself a cloud to predict; name another --out")
    return paths


def _stem(name: str) -> str:
    while Path(name).suffix.lower() in SUFFIXES:  # nuScenes' end in .pcd.bin
        name = Path(name).stem
    return name


def _branch(args: argparse.Namespace) -> tuple[str | None, str | None]:
    exported = Path(args.weight).is_dir() or args.weight.endswith(".safetensors")
    return args.branch or (None if exported else "teacher"), args.config_file


def _grouping(grouping: Grouping, args: argparse.Namespace) -> Grouping:
    given = {
        name: getattr(args, name)
        for name in ("method", "radius", "bandwidth", "min_size")
        if getattr(args, name) is not None
    }
    if args.keep_planes:
        given.update(planes=None, ground=None)
    return replace(grouping, **given)


def _recipe(pretrained: Pretrained, args: argparse.Namespace, frame: Frame) -> Any:
    recipe = pretrained.recipe
    if args.viewpoint is not None:
        eye = frame.point(np.array(args.viewpoint))
        return replace(recipe, viewpoint=tuple(eye.tolist()))
    return recipe


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()  # "meta" holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used ({reason})") from None
    return device


def _finite(cloud: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return the rows of a cloud without NaN or inf; None for all."""
    good = np.ones(len(cloud["coord"]), bool)
    for values in cloud.values():
        if len(values) == len(good) and np.asarray(values).dtype.kind == "f":
            good &= np.isfinite(values).reshape(len(good), -1).all(1)
    return None if good.all() else np.flatnonzero(good)


def _write(
    path: Path,
    cloud: dict[str, np.ndarray],
    found: Prediction,
    shift: np.ndarray,
    kept: np.ndarray | None,
    keep_color: bool,
) -> None:
    """Write every point of the cloud in its own frame, those left out without one."""
    coord = cloud["coord"]
    instance, plane = found.instance, found.plane
    if kept is not None:
        instance = _spread(instance, kept, len(coord), -1)
        shift = _spread(shift, kept, len(coord), np.nan)
        plane = _spread(plane, kept, len(coord), False)
    if path.suffix == ".npz":
        _write_npz(path, coord=coord, instance=instance, shift=shift, plane=plane)
        return
    color = cloud.get("color")
    if not keep_color or color is None:
        color = instance_colors(instance)
    columns = dict(zip(("shift_x", "shift_y", "shift_z"), shift.T, strict=True))
    color = np.nan_to_num(color)
    normal = cloud.get("normal")
    write_ply(path, coord, color, normal, instance=instance, plane=plane, **columns)


def _spread(values: np.ndarray, rows: np.ndarray, num: int, missing: Any) -> np.ndarray:
    full = np.full((num, *values.shape[1:]), missing, values.dtype)
    full[rows] = values
    return full


def _write_npz(path: Path, **arrays: np.ndarray) -> None:
    def write(partial: Path) -> None:
        with open(partial, "wb") as file:  # to a path NumPy adds .npz
            np.savez_compressed(file, **arrays)

    write_whole(path, write)


def _draw(
    path: Path, frame: Frame, cloud: dict[str, np.ndarray], found: Prediction
) -> None:
    rows = np.arange(len(found.instance))
    if len(rows) > _DRAWN:
        rows = np.random.default_rng(0).choice(rows, _DRAWN, replace=False)
    shown = frame.metres({key: values[rows] for key, values in cloud.items()})
    shown["coord"] = shown["coord"] - shown["coord"].mean(0)
    vectors = np.where(found.plane[rows, None], 0, found.shift[rows])
    try:
        save_panels(path, shown, vectors, found.instance[rows])
    except UserError as error:
        print(f"pointins: no picture: {error}", file=sys.stderr)


def _tell(path: str, output: Path, found: Prediction, num: int, seconds: float) -> None:
    count = int(found.instance.max(initial=-1)) + 1
    share = float((found.instance >= 0).sum()) / num
    parts = f" in {found.num_tiles} parts" if found.num_tiles > 1 else ""
    remarks = list(found.assumed)
    if lost := num - len(found.instance):
        remarks.insert(0, f"{lost:,} with NaN have none")
    made_up = f" ({', '.join(remarks)})" if remarks else ""
    print(
        f"{path}: {num:,} points{parts}, {count} instances on {share:.0%} of them, "
        f"{seconds:.1f} s{made_up} -> {output}"
    )
