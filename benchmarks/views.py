"""Two global and four local views of a scene, beside Pointcept's generator.

    POINTCEPT_ROOT=... python benchmarks/views.py [--points 200000] [--json FILE]

Both make the views of Pointcept's Sonata configuration with its transforms (colours,
rotations, jitter, elastic distortion); ours finds each view's matrix besides. Of the
same seed, sizes of views differ, since draws do: ratios are of many scenes.
"""

import argparse
import copy
import os
import random
from pathlib import Path

import numpy as np
from alternation import absent, alternate, compare, report
from peers import pointcept_transforms

WHAT = "view generation (2 global, 4 local)"


def make_scene(num_points: int) -> dict:
    """Return floor, walls and boxes of a room of 8 x 8 x 2.5 m."""
    rng = np.random.default_rng(0)
    coord = rng.random((num_points, 3)) * [8, 8, 2.5]
    face = rng.integers(0, 4, num_points)
    coord[face == 0, 2] = 0
    coord[face == 1, 0] = 0
    coord[face == 2, 1] = 0
    boxes = face == 3
    coord[boxes, 2] = np.floor(coord[boxes, 0] + coord[boxes, 1]) % 3 / 2
    coord = coord.astype(np.float32)
    normal = rng.normal(size=(num_points, 3)).astype(np.float32)
    return {
        "coord": coord,
        "origin_coord": coord.copy(),
        "color": rng.integers(0, 256, (num_points, 3)).astype(np.float32),
        "normal": normal / np.linalg.norm(normal, axis=1, keepdims=True),
        "name": "room",
        "index_valid_keys": ["coord", "origin_coord", "color", "normal"],
    }


def sonata_views(root: str) -> dict:
    """Return the generator's part of Pointcept's Sonata configuration."""
    from pointins_plugin.host import Config

    path = Path(root, "configs", "sonata", "pretrain-sonata-v1m1-0-base.py")
    steps = Config.fromfile(str(path)).data.train.datasets[0].transform
    return next(dict(s) for s in steps if s["type"] == "MultiViewGenerator")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json")
    args = parser.parse_args()
    size = f"{args.points:,} points"
    theirs = pointcept_transforms()
    if theirs is None:
        report([absent(WHAT, "Pointcept MultiViewGenerator", size)], args.json)
        return
    from pointins_plugin.host import TRANSFORMS

    options = sonata_views(os.environ["POINTCEPT_ROOT"])
    scene = make_scene(args.points)
    tracked = {**options, "type": "TrackedMultiViewGenerator"}
    generators = {
        "TrackedMultiViewGenerator": TRANSFORMS.build(tracked),
        "Pointcept MultiViewGenerator": theirs.TRANSFORMS.build(options),
    }
    random.seed(0)
    np.random.seed(0)
    times = alternate(
        {
            name: lambda g=generator: g(copy.copy(scene))
            for name, generator in generators.items()
        },
        args.rounds,
    )
    report(compare(WHAT, times, size, target=2.0), args.json)


if __name__ == "__main__":
    main()
