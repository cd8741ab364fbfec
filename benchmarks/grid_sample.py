"""One point a cell of a grid, beside Pointcept's GridSample and NumPy.

    python benchmarks/grid_sample.py [--points 1000000] [--json FILE]

Points of a room of 8 x 8 x 2.5 m, cells of 2 cm. The cells found are compared; with
the same seed the points kept, and their order, are Pointcept's.
"""

import argparse

import numpy as np
from alternation import absent, alternate, compare, report
from peers import pointcept_transforms
from views import make_scene

WHAT = "grid sampling"
OPTIONS = {"type": "GridSample", "grid_size": 0.02, "hash_type": "fnv", "mode": "train"}


def unique_rows(coord: np.ndarray) -> np.ndarray:
    """Return one point a cell by sorting the cells' rows."""
    cells = np.floor(coord / OPTIONS["grid_size"]).astype(np.int64)
    return coord[np.unique(cells, axis=0, return_index=True)[1]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    args = parser.parse_args()
    theirs = pointcept_transforms()
    from pointins_plugin.host import TRANSFORMS

    scene = make_scene(args.points)
    coord = scene["coord"]
    samplers = {"GridSample": TRANSFORMS.build(OPTIONS)}
    if theirs is not None:
        samplers["Pointcept GridSample"] = theirs.TRANSFORMS.build(OPTIONS)

    def sample(sampler) -> np.ndarray:
        np.random.seed(0)
        given = {**scene, "index_valid_keys": list(scene["index_valid_keys"])}
        return sampler(given)["coord"]

    functions = {n: lambda s=sampler: sample(s) for n, sampler in samplers.items()}
    functions["np.unique(axis=0)"] = lambda: unique_rows(coord)
    kept = [function() for function in functions.values()]
    assert len({len(points) for points in kept}) == 1, "the cells differ"
    if theirs is not None:
        assert np.array_equal(kept[0], kept[1]), "the points kept differ"
    size = f"{args.points:,} points, {len(kept[0]):,} cells"
    times = alternate(functions, args.rounds)
    rows = compare(WHAT, times, size, target=2.0)
    if theirs is None:
        rows.append(absent(WHAT, "Pointcept GridSample", size))
    report(rows, args.json)


if __name__ == "__main__":
    main()
