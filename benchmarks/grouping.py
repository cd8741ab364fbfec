"""How grouping turns one run's offsets into instances: radius, bandwidth, smoothing.

    python benchmarks/grouping.py exp/pointins/mosd-pretrain --split train

Loads a finished run, predicts offsets once for each scene of a split and prints
class-agnostic AP, AP50 and AP25 of every grouping. Choose on train, report on val.
"""

import argparse

import numpy as np
import torch

from pointins_plugin.evaluation.label_free import (
    OffsetScore,
    agnostic_ap,
    offset_instances,
    scene_prediction,
    true_offsets,
)
from pointins_plugin.hooks.label_free import LabelFreeInstanceEvaluator
from pointins_plugin.host import Config, build_dataset, build_model, collate_fn
from pointins_plugin.host.standalone.checkpoint import load_checkpoint


def predict(run: str, split: str, max_scenes: int):
    """Return the config, the evaluator's options and the scenes of a split."""
    cfg = Config.fromfile(f"{run}/config.py")
    model = build_model(cfg.model).eval()
    model.load_state_dict(load_checkpoint(f"{run}/model/model_last.pth")["state_dict"])
    options = next(h for h in cfg.hooks if h["type"].startswith("LabelFree"))
    options = {key: value for key, value in options.items() if key != "type"}
    hook = LabelFreeInstanceEvaluator(**options)
    dataset = build_dataset({**cfg.data.val, "split": split})
    scenes = []
    for index in range(min(len(dataset), max_scenes)):
        np.random.seed(index)
        scenes += hook._predict(model, collate_fn([dataset[index]]))
    return cfg, options, scenes


def score(scenes, **grouping) -> str:
    """Return AP, AP50 and AP25 of one grouping as table cells."""
    predictions = [
        scene_prediction(
            offset_instances(s["coord"], s["used"], s["plane"], **grouping),
            s["instance"],
        )
        for s in scenes
    ]
    ap = agnostic_ap(predictions)
    return " | ".join(f"{ap[key]:.1f}" for key in ("map", "ap50", "ap25"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--split", default="train")
    parser.add_argument("--max-scenes", type=int, default=10**6)
    args = parser.parse_args()
    cfg, options, scenes = predict(args.run, args.split, args.max_scenes)
    offsets = OffsetScore()
    for scene in scenes:
        truth = true_offsets(scene["coord"], scene["instance"])
        offsets.update(scene["shift"], truth, scene["instance"] >= 0)
    print(f"{len(scenes)} scenes of {args.split}: {offsets.compute()}\n")
    print("| offsets | grouping | AP | AP50 | AP25 |\n|---|---|---|---|---|")
    pitch, size = cfg.grid_size, options["min_size"]
    for name in ("none", "as predicted", "smoothed"):
        for scene in scenes:
            scene["used"] = {
                "none": np.zeros_like(scene["shift"]),
                "as predicted": scene["shift"],
                "smoothed": scene["grouped_shift"],
            }[name]
        for factor in (1.5, 2.0) if name == "none" else (0.5, 0.75, 1.0, 1.25, 1.5):
            cells = score(scenes, radius=factor * pitch, min_size=size)
            print(f"| {name} | components, {factor:g} pitches | {cells} |")
        if name == "none":
            continue
        for factor in (0.67, 1.0, 1.33, 1.67):
            width = factor * options["bandwidth"]
            cells = score(scenes, method="modes", bandwidth=width, min_size=size)
            print(f"| {name} | modes, {width:.3f} m | {cells} |")
    print(f"\nseed {cfg.seed}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
