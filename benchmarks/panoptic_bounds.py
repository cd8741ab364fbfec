"""What bounds panoptic quality: the classes, or the offsets?

    python benchmarks/panoptic_bounds.py exp/pointins/streets-panoptic-lin
        [--scans 6] [--seed 7] [--json FILE]

Scores a run of a ``streets-panoptic`` config on streets of training's kind that it has
not seen: as it predicts, with true classes in place of its own, and with true offsets;
then with other settings of the grouping.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from alternation import report

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.panoptic_quality import PanopticQuality
from pointins_plugin.host import (
    Config,
    build_dataset,
    build_model,
    collate_fn,
    load_checkpoint,
)

# what takes the place of a prediction, and changed attributes of the model
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "as predicted": ((), {}),
    "true classes": (("classes",), {}),
    "true offsets": (("offsets",), {}),
    "radius 0.3 m": ((), {"radius": 0.3}),
    "radius 0.6 m": ((), {"radius": 0.6}),
    "radius 0.9 m": ((), {"radius": 0.9}),
    "15 points at least": ((), {"min_points": 15}),
    "not smoothed": ((), {"smoothing": None}),
}


class Run:
    """A trained model and what its heads say of some scans."""

    def __init__(self, folder: Path, scans: int, seed: int):
        if not (folder / "config.py").is_file():
            raise UserError(f"{folder} holds no run: it has no config.py")
        cfg = Config.fromfile(folder / "config.py")
        self.data = cfg.data
        val = {**cfg.data.val, "split": "train", "seed": seed, "num_scenes": scans}
        dataset = build_dataset(val)
        self.model = build_model(cfg.model)
        path = folder / "model" / "model_last.pth"
        self.model.load_state_dict(load_checkpoint(path)["state_dict"])
        self.model.eval()
        self.batches = [collate_fn([dataset[index]]) for index in range(scans)]
        with torch.no_grad():
            features = [self.model._features(dict(batch)) for batch in self.batches]
            self.heads = [
                (self.model.bias_head(each), self.model.seg_head(each))
                for each in features
            ]

    def score(self, given: tuple[str, ...], change: dict[str, Any]) -> dict[str, float]:
        """Return PQ and its like, percent, where some of the truth is given."""
        names = list(self.data.names)
        things = tuple(names.index(name) for name in self.data.things)
        quality = PanopticQuality(len(names), (), 30, things)
        before = {name: getattr(self.model, name) for name in change}
        vars(self.model).update(change)
        for batch, (bias, logits) in zip(self.batches, self.heads, strict=True):
            if "classes" in given:
                known = batch["segment"].clamp(min=0)
                logits = 1e3 * F.one_hot(known, len(names)).float()
            if "offsets" in given:
                true = batch["instance_centroid"] - batch["coord"]
                bias = torch.where(batch["instance"][:, None] >= 0, true.float(), bias)
            found = self.model.segments(bias, logits, batch)
            inverse = batch["inverse"]
            quality.update(
                found["pred_segment"][inverse].numpy(),
                found["pred_instance"][inverse].numpy(),
                batch["origin_segment"].numpy(),
                batch["origin_instance"].numpy(),
            )
        vars(self.model).update(before)
        result = quality.compute()
        keys = ("pq", "pq_things", "pq_stuff", "miou")
        return {key: 100 * float(result[key]) for key in keys}


def main() -> int:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--scans", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    try:
        run = Run(args.run, args.scans, args.seed)
    except UserError as error:
        print(f"panoptic_bounds: {error}", file=sys.stderr)
        return 2
    rows = [{"case": name, **run.score(*case)} for name, case in CASES.items()]
    report(rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
