"""What the grouping of a linear probe makes of offsets, beside coordinates alone.

    python benchmarks/probe_grouping.py --data rooms --runs dos/0 pointins-spatial/0
        [--cells 1 1.5 2] [--rounds 0 2 4] [--average-coordinates] [--scenes 24]
        [--out exp/study]

Runs of the study (row/seed) that are pre-trained here (as for ``sampling_noise.py``)
are probed as there, heads fitted once. Shifted points are then grouped in other ways:
components of several radii (in cells) of centres averaged with their neighbours for
several rounds, and components of the points where they are, as if no offset were known.
Of each, one setting is chosen for AP (or PQ) and one for AP with things given: the best
on training scenes, of the first run that is named, for all. The scores are of the
scenes of evaluation.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn

from pointins_plugin.host import Config
from pointins_plugin.study.ladder import LINEAR, PRETRAINING, Ladder, Unit
from pointins_plugin.study.linear import Probe, fit_heads, score_heads

PLAIN, AVERAGED, STILL = "as the study has it", "averaged centres", "coordinates alone"


class _Still(nn.Module):
    """A head that leaves every point where it is."""

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return feature.new_zeros(len(feature), 3)


def fitted(unit: Unit, out: Path) -> Probe:
    """Return the probe of a row and seed, its heads solved."""
    checkpoint = None
    if unit.row.config is not None:
        folder = out / unit.data / unit.row.name / f"seed{unit.seed}" / PRETRAINING
        checkpoint = folder / "model" / "model_last.pth"
    probe = Probe(Ladder.read().config(unit, LINEAR, "small"), checkpoint)
    fit_heads(probe)
    return probe


def regrouped(probe: Probe, setting: dict[str, Any], still: bool) -> Probe:
    """Return a probe of the same backbone and heads with another grouping."""
    cfg = Config({key: probe.cfg[key] for key in probe.cfg})
    kind = {} if "Panoptic" in cfg.model["type"] else {"type": "PG-grouping"}
    cfg.model = {**cfg.model, **kind, **setting}
    other = Probe(cfg)
    other.model.backbone = probe.model.backbone
    other.model.seg_head = probe.model.seg_head
    other.model.bias_head = _Still() if still else probe.model.bias_head
    return other


def values(scores: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return AP, AP50, AP25 (or PQ, RQ, SQ), and AP, AP50, AP25 of things given."""
    aps = ("map", "ap50", "ap25")
    keys = aps if "map" in scores else ("pq", "rq", "sq")
    return [scores[k] for k in keys], [scores["true_things"][k] for k in aps]


def choose(
    probe: Probe, settings: Sequence[dict[str, Any]], scenes: int, still: bool
) -> list[dict[str, Any]]:
    """Return the best setting on training scenes, for AP and for things given."""
    found = [
        [both[0] for both in values(score_heads(other, "train", scenes))]
        for other in (regrouped(probe, setting, still) for setting in settings)
    ]
    best = [max(range(len(found)), key=lambda i: found[i][k]) for k in range(2)]
    return [settings[index] for index in best]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="rooms")
    parser.add_argument("--runs", nargs="+", default=["dos/0", "pointins-spatial/0"])
    parser.add_argument(
        "--cells", nargs="+", type=float, default=[0.75, 1, 1.25, 1.5, 2]
    )
    parser.add_argument("--rounds", nargs="+", type=int, default=[0, 4])
    parser.add_argument(
        "--average-coordinates",
        action="store_true",
        help="and group these",
    )
    parser.add_argument("--scenes", type=int, default=24, help="of training")
    parser.add_argument("--out", type=Path, default=Path("exp/study"))
    args = parser.parse_args()
    ladder = Ladder.read()
    named = [name.split("/") for name in args.runs]
    units = [Unit(args.data, ladder.rows[row], int(seed)) for row, seed in named]
    grid = ladder.config(units[0], PRETRAINING, "small").grid_size
    averaged = [
        dict(
            grouping="components",
            radius=cells * grid,
            smoothing=dict(rounds=rounds) if rounds else None,
        )
        for cells, rounds in product(args.cells, args.rounds)
    ]
    still = [s for s in averaged if args.average_coordinates or not s["smoothing"]]
    chosen: dict[str, list[dict[str, Any]]] = {}
    print("| run | grouped | AP or PQ | AP50 | AP25 | AP, things given | AP50 | AP25 |")
    print("|---|---|--:|--:|--:|--:|--:|--:|", flush=True)
    for unit in units:
        probe = fitted(unit, args.out)
        if not chosen:
            chosen[AVERAGED] = choose(probe, averaged, args.scenes, still=False)
            chosen[STILL] = choose(probe, still, args.scenes, still=True)
        scores = {PLAIN: values(score_heads(probe))}
        for name, settings in chosen.items():
            one, other = (
                values(score_heads(regrouped(probe, setting, name == STILL)))
                for setting in settings
            )
            scores[name] = one[0], other[1]
        for name, (whole, things) in scores.items():
            cells = " | ".join(f"{value:.1f}" for value in whole + things)
            print(f"| {unit.name} | {name} | {cells} |", flush=True)
    for name, settings in chosen.items():
        for use, setting in zip(("AP", "things given"), settings, strict=True):
            cells, smoothing = setting["radius"] / grid, setting["smoothing"]
            rounds = smoothing["rounds"] if smoothing else 0
            print(f"\n{name}, {use}: components of {cells:g} cells, {rounds} rounds")


if __name__ == "__main__":
    main()
