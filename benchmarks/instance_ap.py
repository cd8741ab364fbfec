"""Instance AP beside the ScanNet procedure as it is usually written.

    python benchmarks/instance_ap.py [--points 150000] [--masks 100] [--json FILE]

The peer is Pointcept's evaluator where POINTCEPT_ROOT names a checkout that can be
imported, else a plain port of the procedure: for every prediction a pass over the
points for every instance of its class. Results are compared. Labels lie in runs, as
in scans, and shuffled.
"""

import argparse
from types import SimpleNamespace

import numpy as np
from alternation import alternate, compare, report
from scipy import sparse

from pointins_plugin.evaluation.instance_ap import (
    IOU_THRESHOLDS,
    instance_average_precision,
)
from pointins_plugin.host import HOST

NUM_CLASSES = 18


def make_scene(points: int, masks: int, instances: int, shuffled: bool, seed: int):
    """Return a scene with dense masks, each an instance whose border has moved."""
    rng = np.random.default_rng(seed)
    instance = np.sort(rng.integers(0, instances + 10, points))
    instance[instance >= instances] = -1
    kind = rng.integers(0, NUM_CLASSES, instances)
    target = np.arange(masks) % instances
    moved = [np.roll(instance == t, rng.integers(-800, 800)) for t in target]
    right = rng.random(masks) < 0.8
    order = rng.permutation(points) if shuffled else slice(None)
    instance = instance[order]
    return {
        "segment": np.where(instance >= 0, kind[instance], -1),
        "instance": instance,
        "masks": np.ascontiguousarray(np.array(moved)[:, order]),
        "classes": np.where(right, kind[target], rng.integers(0, NUM_CLASSES, masks)),
        "scores": rng.random(masks),
    }


def plain_procedure(scenes: list[dict], min_region: int = 100) -> float:
    """Return the mean AP by the ScanNet procedure, one mask and instance at a time."""
    tables = []
    ids = [
        np.unique(scene["instance"], return_index=True, return_counts=True)
        for scene in scenes
    ]
    for kind in range(NUM_CLASSES):
        truth, predictions = [], []
        for scene, known in zip(scenes, ids, strict=True):
            void = scene["segment"] == -1
            found = []
            for k in np.flatnonzero(scene["classes"] == kind):
                mask = np.not_equal(scene["masks"][k], 0)
                size = np.count_nonzero(mask)
                if size >= min_region:
                    lost = np.count_nonzero(np.logical_and(void, mask))
                    found.append([scene["scores"][k], size, lost, mask, []])
            for number, first, size in zip(*known, strict=True):
                if number == -1 or scene["segment"][first] != kind:
                    continue
                entry = (size, [])
                for prediction in found:
                    inside = scene["instance"] == number
                    shared = np.count_nonzero(np.logical_and(inside, prediction[3]))
                    if shared:
                        entry[1].append((prediction, shared))
                        prediction[4].append((entry, shared))
                truth.append(entry)
            predictions += found
        tables.append(
            [_area(truth, predictions, t, min_region) for t in IOU_THRESHOLDS]
        )
    return float(np.nanmean(np.array(tables)[:, :-1]))


def _area(truth, predictions, threshold, min_region) -> float:
    truth = [entry for entry in truth if entry[0] >= min_region]
    if not truth:
        return float("nan")
    if not predictions:
        return 0.0
    scores, hits, spent, missed = [], [], set(), 0
    for size, matches in truth:
        best = None
        for prediction, shared in matches:
            overlap = shared / (size + prediction[1] - shared)
            if overlap <= threshold or id(prediction) in spent:
                continue
            if best is None:
                best = prediction[0]
                spent.add(id(prediction))
            else:
                scores.append(min(best, prediction[0]))
                hits.append(0)
                best = max(best, prediction[0])
        if best is None:
            missed += 1
        else:
            scores.append(best)
            hits.append(1)
    for score, size, lost, _, matches in predictions:
        overlaps = [s / (e[0] + size - s) for e, s in matches]
        if any(overlap > threshold for overlap in overlaps):
            continue
        lost = lost + sum(s for e, s in matches if e[0] < min_region)
        if lost / size <= threshold:
            scores.append(score)
            hits.append(0)
    scores, hits = np.array(scores), np.array(hits)
    precision, recall = [], []
    for level in np.unique(scores):
        above = hits[scores >= level]
        precision.append(above.mean())
        recall.append(above.sum() / (hits.sum() + missed))
    precision, recall = np.array([*precision, 1.0]), np.array([*recall, 0.0])
    steps = np.convolve([recall[0], *recall, 0.0], [-0.5, 0, 0.5], "valid")
    return float(np.dot(precision, steps))


def pointcept_procedure(scenes: list[dict]) -> float:
    """Return the mean AP by Pointcept's own evaluator."""
    from pointcept.engines.hooks.evaluator import InsSegEvaluator

    hook = InsSegEvaluator(segment_ignore_index=(-1,))
    names = [f"class {index}" for index in range(NUM_CLASSES)]
    data = SimpleNamespace(num_classes=NUM_CLASSES, names=names)
    hook.trainer = SimpleNamespace(cfg=SimpleNamespace(data=data))
    hook.valid_class_names = names
    parts = []
    for scene in scenes:
        prediction = {f"pred_{k}": scene[k] for k in ("classes", "scores", "masks")}
        labels = (_Array(scene[key]) for key in ("segment", "instance"))
        gt, pred = hook.associate_instances(prediction, *labels)
        parts.append({"gt": gt, "pred": pred})
    return float(hook.evaluate_matches(parts)["all_ap"])


class _Array:
    """An array that answers as a tensor does."""

    def __init__(self, values: np.ndarray):
        self.values = values

    def cpu(self) -> "_Array":
        return self

    def numpy(self) -> np.ndarray:
        return self.values


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=150_000)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--instances", type=int, default=40)
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    args = parser.parse_args()
    peer = pointcept_procedure if HOST == "pointcept" else plain_procedure
    rows = []
    for shuffled in (False, True):
        dense = [
            make_scene(args.points, args.masks, args.instances, shuffled, seed)
            for seed in range(args.scenes)
        ]
        forms = {
            "dense masks": lambda m: m,
            "sparse masks": sparse.csr_matrix,
            "index lists": lambda m: [np.flatnonzero(mask) for mask in m],
        }
        layout = "shuffled" if shuffled else "in runs"
        for name, convert in forms.items():
            scenes = [{**s, "masks": convert(s["masks"])} for s in dense]
            functions = {
                "instance_average_precision": lambda s=scenes: (
                    instance_average_precision(s, NUM_CLASSES)
                ),
                peer.__name__.replace("_", " "): lambda s=dense: peer(s),
            }
            ours, theirs = (function() for function in functions.values())
            assert abs(ours["map"] - theirs) < 1e-9, "results differ"
            size = f"{args.points:,} points {layout} x {args.masks} masks"
            rows += compare(
                f"instance AP, {name}",
                alternate(functions, args.rounds),
                size,
                target=5.0 if name == "dense masks" else 20.0,
                each=args.scenes,
            )
    report(rows, args.json)


if __name__ == "__main__":
    main()
