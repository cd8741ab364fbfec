"""Panoptic quality beside the SemanticKITTI procedure, and panoptic grouping.

    python benchmarks/panoptic_quality.py [--scans 4] [--rounds 10] [--json FILE]

Scans are streets of 64 beams, about 120,000 points. The peer is a port of the
benchmark's procedure: class by class, segments and their overlaps are counted by
sorting; results are compared. Predictions are the truth with a border of wrong
classes and with instances cut in two. Grouping is what PointGroupPanoptic does after
the backbone and its heads, with centres that scatter, and once as if all points were
things.
"""

import argparse
import statistics
from functools import partial

import numpy as np
import torch
from alternation import alternate, compare, report

from pointins_plugin.datasets.street_layout import CLASSES, STUFF, THINGS
from pointins_plugin.datasets.streets import make_street
from pointins_plugin.evaluation.panoptic_quality import PanopticQuality
from pointins_plugin.ops.panoptic import merge_panoptic

MIN_POINTS = 50
KEYS = ("pred_segment", "pred_instance", "segment", "instance")


def make_scan(index: int) -> dict[str, np.ndarray]:
    """Return a street with a prediction; ids are the benchmark's, 0 for none."""
    rng = np.random.default_rng(index)
    scan = make_street("val", index)
    n = len(scan["segment"])
    wrong = rng.random(n) < 0.08
    scan["pred_segment"] = np.where(
        wrong, rng.integers(0, len(CLASSES), n), scan["segment"]
    )
    cut = scan["coord"][:, 0] > scan["coord"][:, 0].mean()
    split = (scan["instance"] % 5 == 0) & cut
    scan["pred_instance"] = np.where(split, 500, scan["instance"]) + 1
    scan["instance"] = scan["instance"] + 1
    return {key: np.asarray(values) for key, values in scan.items()}


class PlainProcedure:
    """The procedure of semantic-kitti-api, class by class."""

    def __init__(self):
        self.tp, self.fp, self.fn, self.iou = np.zeros((4, len(CLASSES)))
        self.confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)

    def update(self, pred_class, pred_id, true_class, true_id) -> None:
        np.add.at(self.confusion, (pred_class, true_class), 1)
        pred_id, true_id = pred_id + 1, true_id + 1
        for kind in range(len(CLASSES)):
            predicted = pred_id * (pred_class == kind)
            true = true_id * (true_class == kind)
            names_p, size_p = np.unique(predicted[predicted > 0], return_counts=True)
            names_t, size_t = np.unique(true[true > 0], return_counts=True)
            both = (predicted > 0) & (true > 0)
            pairs, shared = np.unique(
                predicted[both] + 100000 * true[both], return_counts=True
            )
            p = np.searchsorted(names_p, pairs % 100000)
            t = np.searchsorted(names_t, pairs // 100000)
            iou = shared / (size_p[p] + size_t[t] - shared)
            hit = iou > 0.5
            self.tp[kind] += hit.sum()
            self.iou[kind] += iou[hit].sum()
            for size, matched, errors in (
                (size_t, t[hit], self.fn),
                (size_p, p[hit], self.fp),
            ):
                left = np.ones(len(size), bool)
                left[matched] = False
                errors[kind] += (left & (size >= MIN_POINTS)).sum()

    def quality(self) -> float:
        sq = self.iou / np.maximum(self.tp, 1e-15)
        rq = self.tp / np.maximum(self.tp + (self.fp + self.fn) / 2, 1e-15)
        return float((sq * rq).mean())


def ours(scans) -> float:
    """Return PQ by the package."""
    things = [CLASSES.index(name) for name in THINGS]
    score = PanopticQuality(len(CLASSES), (), MIN_POINTS, things)
    for scan in scans:
        score.update(*(scan[key] for key in KEYS))
    return score.compute()["pq"]


def plain(scans) -> float:
    """Return PQ by the port."""
    score = PlainProcedure()
    for scan in scans:
        score.update(*(scan[key] for key in KEYS))
    return score.quality()


def grouping_input(scan: dict, everything: bool):
    """Return scattered centres, probabilities and stuff of a scan."""
    generator = torch.Generator().manual_seed(0)
    coord = torch.from_numpy(scan["coord"])
    instance = torch.from_numpy(scan["instance"]).long()
    count = torch.bincount(instance).clamp(min=1)[:, None]
    mean = torch.zeros(len(count), 3).index_add(0, instance, coord) / count
    centre = torch.where(instance[:, None] > 0, mean[instance], coord)
    centre = centre + 0.1 * torch.randn(centre.shape, generator=generator)
    probability = torch.full((len(coord), len(CLASSES)), 0.01)
    rows = torch.arange(len(coord))
    probability[rows, torch.from_numpy(scan["segment"]).long()] = 0.9
    if everything:
        return coord, probability, ()
    return centre, probability, tuple(CLASSES.index(name) for name in STUFF)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scans = [make_scan(index) for index in range(args.scans)]
    points = sum(len(scan["coord"]) for scan in scans) // len(scans)
    difference = abs(ours(scans) - plain(scans))
    assert difference < 1e-9, difference
    print(f"PQ {ours(scans):.6f}, difference {difference:.1e}; times are of one scan\n")
    times = alternate(
        {
            "PanopticQuality": partial(ours, scans),
            "semantic-kitti-api procedure": partial(plain, scans),
        },
        args.rounds,
    )
    size = f"{points:,} points"
    rows = compare("panoptic quality", times, size, target=3.0, each=len(scans))
    groupings = {
        f"{name}, {method}": partial(
            merge_panoptic,
            *grouping_input(scans[0], everything),
            method=method,
            radius=0.5,
        )
        for name, everything, method in (
            ("things grouped", False, "components"),
            ("things grouped", False, "modes"),
            ("all points grouped", True, "components"),
        )
    }
    for name, t in alternate(groupings, max(1, args.rounds // 3)).items():
        print(f"{name}: {1e3 * statistics.median(t):.0f} ms")
    print()
    report(rows, args.json)


if __name__ == "__main__":
    main()
