"""How far apart points may be that geometry alone joins: the baseline's radius.

    python benchmarks/geometry_alone.py --data mosd rooms streets [--split train]
        [--scenes 24] [--samplings 3] [--cells 1 1.25 1.5 2]

Components of coordinates without planes or ground, class-agnostic AP, AP50 and AP25, on
the scenes of the study. The radius of the configs is chosen on train; the split of
evaluation is for showing what the choice does, not for making it.
"""

import argparse
from itertools import islice

import numpy as np

from pointins_plugin.evaluation.label_free import (
    agnostic_ap,
    offset_instances,
    scene_prediction,
)
from pointins_plugin.host import HOOKS
from pointins_plugin.study.geometry import geometry_config, sampled_scenes
from pointins_plugin.study.ladder import EVALUATOR, PRETRAINING, WHOLE, Ladder, Unit


def sweep(data: str, split: str, scenes: int, samplings: int, cells: list[float]):
    """Yield a row for each radius: mean and deviation over samplings."""
    ladder = Ladder.read()
    found: dict[float, list] = {factor: [] for factor in cells}
    for seed in range(samplings):
        cfg = geometry_config(ladder, data, seed, "small")
        whole = ladder.config(
            Unit(data, ladder.rows[WHOLE], seed), PRETRAINING, "small"
        )
        cfg.data.train = whole.data.train
        (options,) = (hook for hook in cfg.hooks if hook["type"] == EVALUATOR)
        evaluator = HOOKS.build(options)
        seen = list(islice(sampled_scenes(cfg, evaluator, split), scenes))
        for factor in cells:
            predictions = [
                scene_prediction(
                    offset_instances(
                        scene["coord"],
                        np.zeros_like(scene["coord"]),
                        scene["plane"],
                        radius=factor * whole.grid_size,
                        min_size=evaluator.options["min_size"],
                    ),
                    scene["instance"],
                )
                for scene in seen
            ]
            found[factor].append(agnostic_ap(predictions, evaluator.min_region))
    for factor, runs in found.items():
        values = np.array([[run[k] for k in ("map", "ap50", "ap25")] for run in runs])
        deviation = values.std(0, ddof=1) if samplings > 1 else values[0] * np.nan
        yield factor, len(seen), values.mean(0), deviation


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["mosd", "rooms", "streets"])
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--scenes", type=int, default=24, help="of each data set")
    parser.add_argument("--samplings", type=int, default=3)
    parser.add_argument(
        "--cells", nargs="+", type=float, default=[1, 1.15, 1.25, 1.5, 2, 2.5, 3]
    )
    args = parser.parse_args()
    print("| data | scenes | radius, cells | AP | AP50 | AP25 |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    for data in args.data:
        rows = sweep(data, args.split, args.scenes, args.samplings, args.cells)
        for factor, scenes, mean, deviation in rows:
            cells = [f"{data}, {args.split}", str(scenes), f"{factor:g}"]
            cells += [
                f"{m:.1f} ± {d:.1f}" for m, d in zip(mean, deviation, strict=True)
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
