"""Semantic segmentation scores of a model during training."""

from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.semantic import confusion_matrix, semantic_scores
from pointins_plugin.hooks.labelled import LabelledValidationHook
from pointins_plugin.host import HOOKS, comm, to_numpy


# On Pointcept in the place of its own: same keywords, metric and scalars, and a report.
@HOOKS.register_module(force=True)
class SemSegEvaluator(LabelledValidationHook):
    """Score predicted classes after every epoch: mIoU, mAcc and allAcc.

    The model returns ``seg_logits`` (N, C). Where the batch holds ``inverse`` and
    ``origin_segment`` every original point is scored.

    Args:
        write_cls_iou: also write the IoU of every class to the metrics.
        every: epochs between two evaluations; 0 evaluates at the end only.
        filename: of the report in the run's folder; its scores are percentages, its
            ``classes`` hold IoU and accuracy of every class.

    The metric is mIoU. Classes absent everywhere count as 0, as in Pointcept.
    """

    def __init__(
        self,
        write_cls_iou: bool = False,
        every: int = 1,
        filename: str = "semantic.json",
    ):
        super().__init__(every, filename)
        self.write_cls_iou = write_cls_iou

    def measure(self, model: Any) -> dict[str, Any]:
        data = self.trainer.cfg.data
        names = list(data.names)
        total = np.zeros((data.num_classes, data.num_classes + 1), dtype=np.int64)
        losses, clouds = [], 0
        for batch, output, count in self.outputs(model):
            if "segment" not in batch:
                raise UserError(
                    "SemSegEvaluator: validation batches have no 'segment'; add it to "
                    "the keys of Collect in data.val.transform"
                )
            losses.append(float(output["loss"]))
            clouds += count
            predicted = output["seg_logits"].argmax(1)
            total += self._confusion(predicted, batch, count)
        parts = comm.all_gather((total, clouds))
        scores = semantic_scores(sum(part[0] for part in parts))
        return {
            "scenes": sum(part[1] for part in parts),
            "loss": self.mean_loss(losses),
            **{key: 100 * scores[key] for key in ("miou", "macc", "allacc")},
            "classes": {
                name: {"iou": 100 * float(iou), "acc": 100 * float(acc)}
                for name, iou, acc in zip(
                    names, scores["iou"], scores["acc"], strict=True
                )
            },
        }

    def _confusion(
        self, predicted: Any, batch: dict[str, Any], count: int
    ) -> np.ndarray:
        """Return the confusion matrix of the first ``count`` clouds of a batch."""
        data = self.trainer.cfg.data
        segment = batch["segment"]
        if "inverse" in batch:
            if "origin_segment" not in batch:
                raise UserError(
                    "SemSegEvaluator: validation batches have 'inverse' but no "
                    "'origin_segment'; collect both in data.val.transform"
                )
            if len(batch["offset"]) > 1:
                raise UserError(
                    "SemSegEvaluator: 'inverse' counts within one scene; set "
                    "batch_size_val to the number of processes, or None"
                )
            predicted = predicted[batch["inverse"]]
            segment = batch["origin_segment"]
        else:
            end = int(batch["offset"][count - 1])
            predicted, segment = predicted[:end], segment[:end]
        arrays = to_numpy({"predicted": predicted, "segment": segment})
        return confusion_matrix(
            arrays["predicted"], arrays["segment"], data.num_classes, data.ignore_index
        )

    def metric(self, result: dict[str, Any]) -> tuple[str, float]:
        return "mIoU", result["miou"] / 100

    def log(self, result: dict[str, Any]) -> None:
        logger = self.trainer.logger
        keys = ("miou", "macc", "allacc")
        values = "/".join(f"{result[key] / 100:.4f}" for key in keys)
        logger.info(f"Val result: mIoU/mAcc/allAcc {values}, {result['scenes']} scenes")
        for name, row in result["classes"].items():
            logger.info(
                f"Class {name}: iou/accuracy {row['iou'] / 100:.4f}/"
                f"{row['acc'] / 100:.4f}"
            )
        scalars = {
            "loss": result["loss"],
            "mIoU": result["miou"] / 100,
            "mAcc": result["macc"] / 100,
            "allAcc": result["allacc"] / 100,
        }
        if self.write_cls_iou:
            for index, (name, row) in enumerate(result["classes"].items()):
                scalars[f"cls_{index}-{name} IoU"] = row["iou"] / 100
        self.write_scalars(scalars, result["epoch"])
