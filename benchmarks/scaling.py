"""Time and memory against the size of a problem, as a picture.

    python benchmarks/scaling.py [--picture docs/images/scaling.png] [--json FILE]

Points of scenes, tokens, prototypes, instances and scenes grow; times are processor
seconds, memory is what a call adds to a process at its peak. The exponent of a curve is
the slope of its logarithm over the last half: 1 is linear.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alternation import machine, report, write_json
from group_points import shifted_centres
from instance_ap import NUM_CLASSES, make_scene
from memory import peak_mib
from peers import pointcept_transforms  # first: it chooses the runtime
from scipy import sparse
from sinkhorn import TEMPERATURE, make_logits
from views import make_scene as make_room

from pointins_plugin.evaluation.instance_ap import instance_average_precision
from pointins_plugin.host import TRANSFORMS
from pointins_plugin.ops.components import group_points
from pointins_plugin.ops.kmeans import kmeans
from pointins_plugin.ops.neighbours import knn, nearest
from pointins_plugin.ops.sinkhorn import sinkhorn, zipf_weights
from pointins_plugin.ops.views import sample_views

assert callable(pointcept_transforms)
POINTS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
TOKENS = (1_000, 4_000, 16_000, 64_000)
PROTOTYPES = (256, 512, 1024, 2048, 4096)
INSTANCES = (10, 40, 160, 640)
SCENES = (1, 4, 16, 64)
SINKHORN_ROUNDS = 3


def by_points(num: int) -> dict[str, Callable]:
    """Return calls on a scene of so many points."""
    room = make_room(num)
    grid = TRANSFORMS.build(dict(type="GridSample", grid_size=0.02, mode="train"))
    centres = shifted_centres(num)
    return {
        "grid sampling": lambda: grid(
            {**room, "index_valid_keys": list(room["index_valid_keys"])}
        ),
        "choice of six views": lambda: sample_views(room["coord"]),
        "grouping": lambda: group_points(centres, 0.04),
    }


def by_tokens(num: int) -> dict[str, Callable]:
    """Return calls on a cloud of so many tokens."""
    coord = torch.from_numpy(make_room(num)["coord"])
    moved = coord + 0.01
    offset = torch.tensor([num])
    feature = torch.nn.functional.normalize(torch.randn(num, 256))
    logits = make_logits(num, 256)
    mass = zipf_weights(256, 1.0)
    return {
        "k-means, K 20": lambda: kmeans(feature, 20),
        "16 neighbours": lambda: knn(coord, 16, offset),
        "matching": lambda: nearest(coord, moved, offset, offset),
        "Sinkhorn, 256 prototypes": lambda: sinkhorn(
            logits, mass, SINKHORN_ROUNDS, log_range=2 / TEMPERATURE
        ),
    }


def by_prototypes(num: int) -> dict[str, Callable]:
    """Return calls on so many prototypes, 4096 tokens."""
    logits, mass = make_logits(4096, num), zipf_weights(num, 1.0)
    scale = partial(sinkhorn, logits, mass, SINKHORN_ROUNDS)
    return {
        "Sinkhorn, bounded logits": lambda: scale(log_range=2 / TEMPERATURE),
        "Sinkhorn, any logits": lambda: scale(log_range=1e3),
    }


def by_instances(num: int) -> dict[str, Callable]:
    """Return calls on so many instances, 200,000 points, a mask an instance."""
    rng = np.random.default_rng(0)
    instance = np.sort(rng.integers(0, num, 200_000))
    kind = rng.integers(0, NUM_CLASSES, num)
    masks = sparse.csr_matrix(
        (np.ones(len(instance), bool), (instance, np.arange(len(instance))))
    )
    scene = {
        "segment": kind[instance],
        "instance": instance,
        "masks": masks,
        "classes": kind,
        "scores": rng.random(num),
    }
    centre = rng.random((num, 3)) * [20, 20, 2.5]
    shifted = centre[instance] + 0.02 * rng.normal(size=(len(instance), 3))
    return {
        "instance AP": lambda: instance_average_precision([scene], NUM_CLASSES),
        "grouping": lambda: group_points(shifted, 0.04),
    }


def by_scenes(num: int) -> dict[str, Callable]:
    """Return calls on a stream of so many scenes."""
    scene = make_scene(50_000, 60, 30, False, 0)
    scene["masks"] = sparse.csr_matrix(scene["masks"])

    def stream() -> Iterator[dict]:
        for _ in range(num):
            yield {key: value.copy() for key, value in scene.items()}

    return {"instance AP": lambda: instance_average_precision(stream(), NUM_CLASSES)}


AXES = {
    "points": (POINTS, by_points),
    "tokens": (TOKENS, by_tokens),
    "prototypes": (PROTOTYPES, by_prototypes),
    "instances": (INSTANCES, by_instances),
    "scenes": (SCENES, by_scenes),
}


def curves(sizes: tuple[int, ...], calls: Callable) -> dict[str, dict[str, list]]:
    """Return seconds and MiB of every call at every size."""
    found: dict[str, dict[str, list]] = {}
    peak_of_nothing = peak_mib(lambda: None)
    for size in sizes:
        for name, call in calls(size).items():
            entry = found.setdefault(name, {"size": [], "seconds": [], "mib": []})
            entry["size"].append(size)
            entry["seconds"].append(processor_seconds(call))
            entry["mib"].append(max(peak_mib(call) - peak_of_nothing, 0.1))
    return found


def processor_seconds(call: Callable, rounds: int = 5) -> float:
    """Return the least processor time of some calls after a first.

    Sizes are minutes apart: what else the machine does meanwhile must not count.
    """
    call()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def exponent(sizes: list[float], values: list[float]) -> float:
    """Return the slope of the logarithm over the last half of a curve."""
    half = len(sizes) // 2
    x, y = np.log(sizes[half - 1 :]), np.log(np.maximum(values[half - 1 :], 1e-9))
    return float(np.polyfit(x, y, 1)[0])


def draw(found: dict[str, dict[str, Any]], file: str) -> None:
    """Draw times above and memory below, an axis a column."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    figure, grid = plt.subplots(
        2, len(found), figsize=(3.4 * len(found), 6.4), sharex="col", dpi=100
    )
    for place, label in zip(
        grid[:, 0], ("processor seconds", "MiB at the peak"), strict=True
    ):
        place.set_ylabel(label)
    for column, (axis, calls) in zip(grid.T, found.items(), strict=True):
        for place, key in zip(column, ("seconds", "mib"), strict=True):
            for name, entry in calls.items():
                place.loglog(entry["size"], entry[key], marker="o", label=name)
            sizes = np.array(next(iter(calls.values()))["size"], float)
            low, high = place.get_ylim()
            linear = high * sizes / sizes[-1]
            place.loglog(sizes, linear, ":", color="0.6", label="linear")
            place.set_ylim(min(low, 1.0) if key == "mib" else low, high)
            place.xaxis.set_minor_formatter(ticker.NullFormatter())
            place.yaxis.set_minor_formatter(ticker.NullFormatter())
            place.grid(alpha=0.3)
        column[0].set_title(axis)
        column[0].legend(fontsize=7, frameon=False)
        column[1].set_xlabel(axis)
    figure.tight_layout()
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(file).with_suffix(".tmp.png")
    figure.savefig(temporary)
    temporary.replace(file)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--large", action="store_true", help="65,536 x 4096 Sinkhorn")
    parser.add_argument("--picture")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.manual_seed(0)
    found = {axis: curves(*AXES[axis]) for axis in args.axes}
    rows = [
        {
            "against": axis,
            "what": name,
            "largest": f"{entry['size'][-1]:,}",
            "seconds": entry["seconds"][-1],
            "MiB": entry["mib"][-1],
            "exponent of time": exponent(entry["size"], entry["seconds"]),
            "exponent of memory": exponent(entry["size"], entry["mib"]),
        }
        for axis, calls in found.items()
        for name, entry in calls.items()
    ]
    if args.large:
        rows += large()
    report(rows, None)
    if args.picture:
        draw(found, args.picture)
    if args.json:
        write_json({"machine": machine(), "rows": rows, "curves": found}, args.json)


def large() -> list[dict[str, Any]]:
    """Return the rows of Sinkhorn at its largest; the plan itself is 1024 MiB."""
    logits, mass = make_logits(65_536, 4096), zipf_weights(4096, 1.0)
    rows = []
    for name, bound in (("bounded logits", 2 / TEMPERATURE), ("any logits", 1e3)):
        call = partial(sinkhorn, logits, mass, SINKHORN_ROUNDS, log_range=bound)
        rows.append(
            {
                "against": "tokens x prototypes",
                "what": f"Sinkhorn, {name}",
                "largest": "65,536 x 4,096",
                "seconds": processor_seconds(call, 1),
                "MiB": peak_mib(call),
            }
        )
    return rows


if __name__ == "__main__":
    main()
