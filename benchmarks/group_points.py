"""Grouping shifted centres beside KD-tree pairs and connected components.

    python benchmarks/group_points.py [--points 20000 100000] [--json FILE]

50 instances whose centres scatter by 2 cm, radius 4 cm. All partitions are compared.
The pairs of 1,000,000 points do not fit into memory: there only ours is timed.
"""

import argparse

import numpy as np
from alternation import alternate, report, row
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pointins_plugin.ops.components import group_points
from pointins_plugin.ops.mean_shift import mean_shift_modes

MOST_FOR_PAIRS = 200_000


def shifted_centres(num_points: int, seed: int = 0) -> np.ndarray:
    """Return (N, 3) centres of 50 instances in a room of 8 x 8 x 2.5 m."""
    rng = np.random.default_rng(seed)
    centres = rng.random((50, 3)) * [8, 8, 2.5]
    number = rng.integers(50, size=num_points)
    return centres[number] + 0.02 * rng.normal(size=(num_points, 3))


def pairs_and_components(points: np.ndarray, radius: float) -> np.ndarray:
    """Group points by all pairs within a radius."""
    pairs = cKDTree(points).query_pairs(radius, output_type="ndarray")
    shape = (len(points), len(points))
    graph = coo_matrix((np.ones(len(pairs), bool), pairs.T), shape)
    return connected_components(graph, directed=False)[1]


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two labellings group the same points."""
    pairs = np.unique(np.stack([a, b]), axis=1).shape[1]
    return pairs == len(np.unique(a)) == len(np.unique(b))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [20_000, 100_000, 1_000_000]
    parser.add_argument("--points", type=int, nargs="+", default=sizes)
    parser.add_argument("--radius", type=float, default=0.04)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    rows = []
    for num in args.points:
        points = shifted_centres(num)
        functions = {
            "group_points": lambda p=points: group_points(p, args.radius),
            "mean_shift_modes": lambda p=points: mean_shift_modes(p, 2 * args.radius),
        }
        if num <= MOST_FOR_PAIRS:
            functions["pairs"] = lambda p=points: pairs_and_components(p, args.radius)
            same = same_partition(functions["group_points"](), functions["pairs"]())
            assert same, "the partitions differ"
        times = alternate(functions, args.rounds)
        peer = times.get("pairs", [float("nan")])
        rows += [row(name, times[name], peer, points=num) for name in functions]
    report(rows, args.json)


if __name__ == "__main__":
    main()
