"""How far a score moves by the points that stand for the cells of the same scenes.

    python benchmarks/sampling_noise.py --data mosd --row pointins-paper --seeds 1 2
        [--samplings 5] [--out exp/study]

A row of the study that is pre-trained here (``sh scripts/study.sh --data mosd --rows
pointins-paper --seeds 1 2 --no-finetuning --results exp/again/study``; a result that
the repository has is not repeated) is probed as there, heads fitted once; its
validation scenes are then scored with other points sampled in each cell. What is left
of the spread over seeds is of the pre-training.
"""

import argparse
from pathlib import Path

import numpy as np

from pointins_plugin.study.ladder import LINEAR, PRETRAINING, Ladder, Unit
from pointins_plugin.study.linear import Probe, fit_heads, score_heads


def sampled_scores(unit: Unit, samplings: int, out: Path) -> np.ndarray:
    """Return AP (or PQ), AP of things given, mIoU and R², (samplings, 4)."""
    cfg = Ladder.read().config(unit, LINEAR, "small")
    checkpoint = None
    if unit.row.config is not None:
        folder = out / unit.data / unit.row.name / f"seed{unit.seed}" / PRETRAINING
        checkpoint = folder / "model" / "model_last.pth"
    probe = Probe(cfg, checkpoint)
    fit_heads(probe)
    found = []
    for probe.sampling in range(samplings):
        scores = score_heads(probe)
        first = scores["map"] if "map" in scores else scores["pq"]
        things = scores["true_things"]["map"]
        found.append([first, things, scores["miou"], scores["offset_r2"]])
    return np.array(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mosd")
    rows = Ladder.read().rows
    parser.add_argument("--row", default="pointins-spatial", choices=list(rows))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--samplings", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("exp/study"))
    args = parser.parse_args()
    print("| run | AP or PQ, each sampling | AP or PQ | AP, things given | mIoU | R² |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    for seed in args.seeds:
        unit = Unit(args.data, rows[args.row], seed)
        found = sampled_scores(unit, args.samplings, args.out)
        each = " ".join(f"{value:.1f}" for value in found[:, 0])
        spread = zip(found.mean(0), found.std(0, ddof=1), (1, 1, 1, 3), strict=True)
        cells = [f"{mean:.{k}f} ± {std:.{k}f}" for mean, std, k in spread]
        print(f"| {unit.name} | {each} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
