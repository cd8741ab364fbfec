"""k-means of SCR, beside scikit-learn, faiss and fast-pytorch-kmeans.

    python benchmarks/kmeans.py [--points 10000] [--channels 256] [--json FILE]

Features are what SCR clusters: directions of a mixture of classes. All have one
start and as many iterations. Ours, scikit-learn and fast-pytorch-kmeans start by
k-means++, faiss from random rows unless it is told otherwise. Inertias are compared.
"""

import argparse

import numpy as np
import torch
from alternation import absent, alternate, compare, report

from pointins_plugin.ops.kmeans import kmeans

WHAT = "k-means of SCR"


def make_features(points: int, channels: int, classes: int = 40) -> np.ndarray:
    """Return (N, C) unit rows of a mixture."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(classes, channels))
    rows = centre[rng.integers(classes, size=points)]
    rows = rows + 0.7 * rng.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def inertia(rows: np.ndarray, label: np.ndarray) -> float:
    """Return the mean square distance to the mean of a row's cluster."""
    label = np.unique(label, return_inverse=True)[1]
    onehot = np.zeros((len(rows), label.max() + 1), np.float32)
    onehot[np.arange(len(rows)), label] = 1
    mean = (onehot.T @ rows) / onehot.sum(0)[:, None]
    return float(np.square(rows - mean[label]).sum(1).mean())


def peers(rows: np.ndarray, k: int, iterations: int) -> dict:
    """Return peers that label the rows, None where they are not installed."""
    names = ("scikit-learn", "faiss-cpu", "faiss-cpu, k-means++", "fast-pytorch-kmeans")
    found: dict = dict.fromkeys(names)
    try:
        from sklearn.cluster import KMeans

        found["scikit-learn"] = lambda: (
            KMeans(k, n_init=1, max_iter=iterations, tol=0, random_state=0)
            .fit(rows)
            .labels_
        )
    except ImportError:
        pass
    try:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())

        def by_faiss(**options) -> np.ndarray:
            search = faiss.Kmeans(
                rows.shape[1],
                k,
                niter=iterations,
                seed=1,
                min_points_per_centroid=1,
                max_points_per_centroid=len(rows),
                **options,
            )
            search.train(rows)
            return search.index.search(rows, 1)[1][:, 0]

        found["faiss-cpu"] = by_faiss
        start = getattr(faiss, "ClusteringInitMethod_KMEANS_PLUS_PLUS", None)
        if start is not None:
            found["faiss-cpu, k-means++"] = lambda: by_faiss(init_method=start)
    except ImportError:
        pass
    try:
        from fast_pytorch_kmeans import KMeans as FastKMeans

        given = torch.from_numpy(rows)

        def by_fast_pytorch() -> np.ndarray:
            np.random.seed(0)
            torch.manual_seed(0)
            search = FastKMeans(k, max_iter=iterations, tol=0, init_method="kmeans++")
            return search.fit_predict(given).numpy()

        found["fast-pytorch-kmeans"] = by_fast_pytorch
    except ImportError:
        pass
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--clusters", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json")
    args = parser.parse_args()
    rows = make_features(args.points, args.channels)
    given = torch.from_numpy(rows)

    def ours() -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        return kmeans(given, args.clusters, args.iterations, generator).numpy()

    found = peers(rows, args.clusters, args.iterations)
    functions = {"ops.kmeans": ours}
    functions |= {name: f for name, f in found.items() if f is not None}
    quality = {name: inertia(rows, function()) for name, function in functions.items()}
    size = f"{args.points:,} x {args.channels}, K {args.clusters}"
    times = alternate(functions, args.rounds)
    rows_found = compare(WHAT, times, size, target=1.0)
    for entry in rows_found:
        gap = 100 * (quality["ops.kmeans"] / quality[entry["against"]] - 1)
        entry["note"] = f"our inertia {gap:+.2f} %"
    rows_found += [absent(WHAT, name, size) for name, f in found.items() if f is None]
    report(rows_found, args.json)


if __name__ == "__main__":
    main()
