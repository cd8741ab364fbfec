"""The command ``pointins submit``: predictions for the outdoor benchmarks' servers."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pointins_plugin.datasets.lidar_benchmarks import NUSCENES, SEMANTIC_KITTI
from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.panoptic_scene import panoptic_scenes
from pointins_plugin.evaluation.submissions import (
    NuScenesLidarSegSubmission,
    NuScenesSubmission,
    SemanticKITTISubmission,
    Submission,
    zip_folder,
)
from pointins_plugin.host import (
    Config,
    DictAction,
    batch_to,
    build_dataset,
    build_model,
    collate_fn,
    in_evaluation,
    load_all,
    seeded,
    to_numpy,
)
from pointins_plugin.options import Parser
from pointins_plugin.paths import find_config

_BENCHMARKS = {
    "SemanticKITTIPanopticDataset": SEMANTIC_KITTI,
    "NuScenesPanopticDataset": NUSCENES,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    add = parser.add_argument
    add("--config-file", required=True, help="config the model was trained with")
    add("-w", "--weight", required=True, help="its checkpoint")
    add("--out", metavar="FOLDER", required=True, help="new folder to write")
    add("--split", default="test", help="scans to predict (default: test)")
    add("--zip", action="store_true", help="also write FOLDER.zip")
    add(
        "--external",
        action="store_true",
        help="say in submission.json that other data were used",
    )
    add("--options", nargs="+", action=DictAction, help="key=value of the config")


def run(words: Sequence[str] | None = None) -> None:
    """Predict every scan of a split, write the files and read them back.

    Args:
        words: the options; those of the command line when None.

    Raises:
        UserError: a config of another data set, weights that do not fit, damaged
            scans, a pipeline that loses points, a folder that is in use.
    """
    parser = Parser(
        "pointins submit",
        description="Write a model's predictions for SemanticKITTI or nuScenes.",
    )
    add_arguments(parser)
    args = parser.parse_args(words)
    cfg = Config.fromfile(find_config(args.config_file))
    cfg.merge_from_dict(args.options or {})
    if "model" not in cfg or "names" not in (cfg.get("data") or {}):
        raise UserError(
            f"config {args.config_file}: it has no model, or no data.names; name the "
            "config that the model was trained with"
        )
    kind = (cfg.data.get("val") or {}).get("type")
    if kind not in _BENCHMARKS:
        raise UserError(
            f"config {args.config_file}: data.val is a {kind}; a submission needs "
            f"{' or '.join(_BENCHMARKS)}"
        )
    benchmark = _BENCHMARKS[kind]
    if tuple(cfg.data.names) != benchmark.names:
        raise UserError(
            f"config {args.config_file}: data.names are not the classes of "
            f"{benchmark.title}; use its own config"
        )
    panoptic = "segment_ignore_index" in cfg.model
    with _submission(benchmark, panoptic, args) as submission:
        # val's pipeline predicts every original point
        dataset = build_dataset({**cfg.data.val, "split": args.split, "labels": False})
        model = build_model(cfg.model)
        load_all(model, args.weight)
        predict(model, dataset, submission)
    print(
        f"wrote {submission.count} scans of {benchmark.title}'s {args.split} split to "
        f"{args.out}, read back equal"
    )
    if args.zip:
        print(f"wrote {zip_folder(args.out)}")


def _submission(benchmark: Any, panoptic: bool, args: argparse.Namespace) -> Submission:
    if benchmark is SEMANTIC_KITTI:
        return SemanticKITTISubmission(args.out, benchmark.submitted)
    kind = NuScenesSubmission if panoptic else NuScenesLidarSegSubmission
    return kind(args.out, benchmark.submitted, args.split, args.external)


@torch.no_grad()
def predict(model: torch.nn.Module, dataset: Any, submission: Submission) -> None:
    """Add the predictions of all scans of a dataset to a submission."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()
    for index in tqdm(range(len(dataset)), unit="scan", desc="submit"):
        scan = dataset.get_data(index)
        name, num_points, own = scan["name"], len(scan["coord"]), slice(None)
        if "sweep" in scan:  # the scan's own points come first
            own = slice(int((scan["sweep"] == 0).sum()))
        with seeded(index):  # pipelines draw the points that stand for their cell
            batch = collate_fn([dataset.transform(scan)])
        batch["name"] = [name]
        given = batch_to(batch, device)
        predicted = _prediction(in_evaluation(model, given))
        (scene,) = panoptic_scenes(to_numpy(batch), predicted)
        if len(scene["pred_segment"]) != num_points:
            raise UserError(
                f"scan {name} has {num_points} points, but {len(scene['pred_segment'])}"
                " are predicted; take out of data.val.transform what drops points "
                "(RangeCrop), and collect inverse"
            )
        submission.add(name, scene["pred_segment"][own], scene["pred_instance"][own])


def _prediction(output: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return classes and instances of a panoptic or of a semantic model."""
    if "pred_segment" not in output:
        segment = output["seg_logits"].argmax(1)
        output = {
            "pred_segment": segment,
            "pred_instance": torch.full_like(segment, -1),
        }
    return to_numpy({key: output[key] for key in ("pred_segment", "pred_instance")})
