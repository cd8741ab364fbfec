"""Nearest points of one cloud in another, beside SciPy's tree and torch-cluster.

    python benchmarks/matching.py [--points 64000] [--json FILE]

Two clouds of a room's surfaces, as two views give them; distances are compared.
"""

import argparse

import numpy as np
import torch
from alternation import absent, alternate, compare, report
from scipy.spatial import cKDTree
from views import make_scene

from pointins_plugin.ops.neighbours import nearest

WHAT = "cross-view matching"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=64_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    args = parser.parse_args()
    coord = torch.from_numpy(make_scene(2 * args.points)["coord"])
    query, reference = coord[: args.points].clone(), coord[args.points :].clone()
    offset = torch.tensor([args.points])

    def tree() -> np.ndarray:
        return cKDTree(reference.numpy()).query(query.numpy())[0]

    functions = {
        "ops.nearest": lambda: nearest(query, reference, offset, offset)[1].numpy(),
        "scipy cKDTree": tree,
    }
    try:
        from torch_cluster import nearest as cluster_nearest

        def cluster() -> np.ndarray:
            index = cluster_nearest(query, reference)
            return (query - reference[index]).norm(dim=1).numpy()

        functions["torch-cluster"] = cluster
    except ImportError:
        pass
    distances = [function() for function in functions.values()]
    for other in distances[1:]:
        assert np.allclose(distances[0], other, atol=1e-5), "the distances differ"
    size = f"{args.points:,} to {args.points:,} points"
    rows = compare(WHAT, alternate(functions, args.rounds), size, target=1.0)
    if "torch-cluster" not in functions:
        rows.append(absent(WHAT, "torch-cluster", size))
    report(rows, args.json)


if __name__ == "__main__":
    main()
