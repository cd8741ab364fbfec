"""Grouping shifted centres beside trees, DBSCAN and PointGroup's search.

    python benchmarks/group_points.py [--points 20000 100000] [--json FILE]

50 instances whose centres scatter by 2 cm, radius 4 cm. All partitions are compared.
Neighbours grow with the square of the points: of 1,000,000 they do not fit into memory,
and only ours is timed.
"""

import argparse
import statistics

import numpy as np
from alternation import absent, alternate, compare, report
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pointins_plugin.ops.components import group_points

WHAT = "grouping shifted centres"


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


def dbscan(points: np.ndarray, radius: float):
    """Return scikit-learn's DBSCAN with every point a core, None without it."""
    try:
        from sklearn.cluster import DBSCAN
    except ImportError:
        return None
    return DBSCAN(eps=radius, min_samples=1).fit_predict(points)


def ball_query(points: np.ndarray, radius: float) -> np.ndarray:
    """Return PointGroup's groups: neighbours of every point, then breadth first.

    Pointcept's ``pointgroup_ops`` asks neighbours of a GPU; here a tree is asked.
    """
    neighbours = cKDTree(points).query_ball_point(points, radius)
    group = np.full(len(points), -1)
    number = 0
    for seed in range(len(points)):
        if group[seed] >= 0:
            continue
        group[seed] = number
        queue = [seed]
        while queue:
            around = np.asarray(neighbours[queue.pop()])
            fresh = around[group[around] < 0]
            group[fresh] = number
            queue.extend(fresh.tolist())
        number += 1
    return group


PEERS = {
    # name: (function, most points that it has the memory, or the patience, for)
    "KD-tree pairs + components": (pairs_and_components, 100_000),
    "scikit-learn DBSCAN": (dbscan, 100_000),
    "ball query + breadth first": (ball_query, 20_000),
}


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
    before = None
    for num in args.points:
        points, size = shifted_centres(num), f"{num:,} points"
        functions = {"group_points": lambda p=points: group_points(p, args.radius)}
        expected = functions["group_points"]()
        for name, (peer, most) in PEERS.items():
            if num > most:
                rows.append(absent(WHAT, name, size, "not run: quadratic"))
                continue
            found = peer(points, args.radius)
            if found is None:
                rows.append(absent(WHAT, name, size))
                continue
            assert same_partition(expected, found), f"the partition of {name} differs"
            functions[name] = lambda f=peer, p=points: f(p, args.radius)
        times = alternate(functions, args.rounds)
        rows += compare(WHAT, times, size, target=10.0)
        own = statistics.median(times["group_points"])
        if before is not None:
            growth = own / before[1] / (num / before[0])
            note = f"{1e3 * own:,.0f} ms: time a point grew {growth:.2f}-fold"
            rows.append(absent(WHAT, f"itself on {before[0]:,}", size, note))
        before = num, own
    report(rows, args.json)


if __name__ == "__main__":
    main()
