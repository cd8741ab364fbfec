"""Testing of trained models on whole scenes."""

import contextlib
import os
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.instance_ap import average_precision, scene_overlaps
from pointins_plugin.evaluation.instance_scene import batch_scenes
from pointins_plugin.evaluation.semantic import confusion_matrix, semantic_scores
from pointins_plugin.files import write_array, write_report

from . import comm
from .batches import batch_to, to_numpy
from .builders import build_dataset, build_model
from .checkpoint import load_checkpoint, match_weights
from .collate import collate_fn
from .env import in_evaluation
from .hooks import HookBase
from .logger import get_root_logger
from .registry import HOOKS, TESTERS
from .sampling import EpochSampler, SeededLoader


def _first(batch: list) -> Any:
    return batch[0]


def load_all(model: nn.Module, path: str) -> None:
    """Load a checkpoint into a model that it fits completely, and log which it is.

    Raises:
        UserError: a key is missing, superfluous or of another shape.
    """
    checkpoint = load_checkpoint(path)
    state = checkpoint["state_dict"]
    wrapped = isinstance(model, nn.parallel.DistributedDataParallel)
    match = match_weights(state, model.state_dict(), wrapped=wrapped)
    odd = match.missing + match.unexpected
    if odd:
        raise UserError(
            f"checkpoint {path}: {match}, all are needed, and no others (first without "
            f"a match: {odd[0]}); test with the config it was trained with"
        )
    model.load_state_dict(match.weights)
    epoch = f", after epoch {checkpoint['epoch']}" if "epoch" in checkpoint else ""
    get_root_logger().info(f"Weights: {path}{epoch}")


class TesterBase:
    """A model, the scenes of ``data.test`` and a report under ``save_path/result``.

    Args:
        cfg: the run's config; ``weight`` is loaded where no model is given.
        model: a model that is ready.
        test_loader: instead of one of ``data.test``.
        verbose: log every scene.
    """

    report = "test.json"

    def __init__(
        self,
        cfg: Any,
        model: nn.Module | None = None,
        test_loader: Any = None,
        verbose: bool = False,
    ):
        self.cfg = cfg
        self.verbose = verbose
        self.logger = get_root_logger(os.path.join(cfg.save_path, "test.log"), "a")
        if test_loader is None and "test" not in cfg.data:
            raise UserError("config: testing needs data.test")
        self.test_loader = test_loader or self.build_loader()
        self.model = model if model is not None else self.build_model()
        self.device = next(self.model.parameters()).device
        self.folder = os.path.join(cfg.save_path, "result")
        os.makedirs(self.folder, exist_ok=True)

    def build_model(self) -> nn.Module:
        """Build the model and load the checkpoint that the config names."""
        if not self.cfg.weight:
            raise UserError("testing needs a checkpoint: name one by -w")
        model = build_model(self.cfg.model)
        load_all(model, self.cfg.weight)
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def build_dataset(self) -> Any:
        """Build the dataset of test scenes."""
        return build_dataset(self.cfg.data.test)

    def build_loader(self) -> SeededLoader:
        """Return the loader of this process's test scenes, one a batch."""
        dataset = self.build_dataset()
        seed = self.cfg.get("seed") or 0
        rank, size = comm.get_rank(), comm.get_world_size()
        return SeededLoader(
            dataset,
            self.collate,
            seed,
            EpochSampler(len(dataset), seed, False, rank, size),
            batch_size=1,
            num_workers=self.cfg.get("num_worker_per_gpu", 0),
        )

    collate = staticmethod(collate_fn)

    def to_device(self, batch: dict) -> dict:
        """Move the tensors of a batch to the model's device."""
        return batch_to(batch, self.device)

    @torch.no_grad()
    def test(self) -> dict[str, Any]:
        """Test now and return (on the main process, or {}) what is written."""
        scenes: dict[str, Any] = {}
        was_training = self.model.training
        self.model.eval()
        try:
            for index, batch in enumerate(self.test_loader, 1):
                name, scene = self.test_scene(batch)
                scenes[name] = scene
                if self.verbose:
                    self.logger.info(f"Test: {name} [{index}/{len(self.test_loader)}]")
        finally:
            self.model.train(was_training)
        gathered: dict[str, Any] = {}
        for part in comm.gather(scenes):
            gathered.update(part)
        if not comm.is_main_process():
            return {}
        result = self.score([gathered[name] for name in sorted(gathered)])
        path = os.path.join(self.folder, self.report)
        write_report(path, {"scenes": len(gathered), **result})
        return result

    def test_scene(self, batch: Any) -> tuple[str, Any]:
        """Return a scene's name and what ``score`` needs to know of it."""
        raise NotImplementedError

    def score(self, scenes: list[Any]) -> dict[str, Any]:
        """Return and log the scores of all scenes."""
        raise NotImplementedError


@TESTERS.register_module()
class SemSegTester(TesterBase):
    """Predict every point of a scene from its fragments, and score the classes.

    Each fragment adds the probabilities of its points; augmented copies of a scene
    vote together. Predictions are saved as ``result/NAME_pred.npy``.
    """

    report = "semantic.json"
    collate = staticmethod(_first)

    def test_scene(self, batch: dict) -> tuple[str, np.ndarray]:
        num_classes = self.cfg.data.num_classes
        segment = np.asarray(batch["segment"])
        votes = torch.zeros(len(segment), num_classes, device=self.device)
        for fragment in batch["fragment_list"]:
            part = self.to_device(collate_fn([fragment]))
            logits = in_evaluation(self.model, part)["seg_logits"]
            # A point occurs once in a fragment.
            votes[part["index"]] += F.softmax(logits.float(), dim=-1)
        predicted = votes.argmax(1).cpu().numpy()
        if "origin_segment" in batch:
            predicted = predicted[np.asarray(batch["inverse"])]
            segment = np.asarray(batch["origin_segment"])
        path = os.path.join(self.folder, f"{batch['name']}_pred.npy")
        write_array(path, predicted)
        return batch["name"], confusion_matrix(
            predicted, segment, num_classes, self.cfg.data.ignore_index
        )

    def score(self, scenes: list[np.ndarray]) -> dict[str, Any]:
        scores = semantic_scores(sum(scenes))
        keys = ("miou", "macc", "allacc")
        values = "/".join(f"{scores[key]:.4f}" for key in keys)
        self.logger.info(f"Test result: mIoU/mAcc/allAcc {values}")
        return {
            **{key: 100 * scores[key] for key in keys},
            "classes": {
                name: {"iou": 100 * float(iou), "acc": 100 * float(acc)}
                for name, iou, acc in zip(
                    self.cfg.data.names, scores["iou"], scores["acc"], strict=True
                )
            },
        }


@TESTERS.register_module()
class InsSegTester(TesterBase):
    """Predict the instances of whole scenes and score them by the ScanNet procedure.

    Args:
        segment_ignore_index: classes that are void.
        instance_ignore_index: id of points of no instance.
        min_region: fewest points of an instance that counts (not in Pointcept).
        **kwargs: as in ``TesterBase``.
    """

    report = "instance_ap.json"

    def __init__(
        self,
        segment_ignore_index: tuple[int, ...],
        instance_ignore_index: int = -1,
        min_region: int = 100,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.segment_ignore_index = tuple(segment_ignore_index)
        self.instance_ignore_index = instance_ignore_index
        self.min_region = min_region

    def test_scene(self, batch: dict) -> tuple[str, Any]:
        output = in_evaluation(self.model, self.to_device(batch))
        (scene,) = batch_scenes(to_numpy(batch), to_numpy(output))
        void = scene["instance"] == self.instance_ignore_index
        scene["instance"] = np.where(void, -1, scene["instance"])
        return scene["name"], scene_overlaps(
            scene, self.cfg.data.num_classes, self.segment_ignore_index, self.min_region
        )

    def score(self, scenes: list[Any]) -> dict[str, Any]:
        ap = average_precision(
            scenes,
            self.cfg.data.num_classes,
            self.segment_ignore_index,
            self.min_region,
        )
        keys = ("map", "ap50", "ap25")
        values = "/".join(f"{ap[key]:.4f}" for key in keys)
        self.logger.info(f"Test result: mAP/AP50/AP25 {values}")
        percent = {key: 100 * float(ap[key]) for key in keys}
        classes = {
            self.cfg.data.names[index]: dict(
                zip(keys, (100 * row).tolist(), strict=True)
            )
            for index, row in zip(ap["class_ids"], ap["per_class"], strict=True)
        }
        return {**percent, "min_region": self.min_region, "classes": classes}


@HOOKS.register_module()
class PreciseEvaluator(HookBase):
    """Run the config's tester (``test``) on ``data.test`` after training.

    Args:
        test_last: test the last weights instead of the best checkpoint.
    """

    def __init__(self, test_last: bool = False):
        self.test_last = test_last

    def before_train(self) -> None:
        cfg = self.trainer.cfg
        kind = TESTERS.get(cfg.test.type) if cfg.get("test") else None
        report = getattr(kind, "report", None)  # a tester of others may have none
        if report and not cfg.resume and comm.is_main_process():
            # of an earlier run in this folder, not of this one
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(cfg.save_path, "result", report))

    def after_train(self) -> None:
        trainer = self.trainer
        cfg = trainer.cfg
        if "test" not in cfg.data or not cfg.get("test"):
            trainer.logger.info("No data.test: nothing is tested")
            return
        best = os.path.join(cfg.save_path, "model", "model_best.pth")
        if not self.test_last and os.path.isfile(best):
            load_all(trainer.model, best)
        else:
            get_root_logger().info("Weights: the last ones of this run")
        tester = TESTERS.build({**cfg.test, "cfg": cfg, "model": trainer.model})
        tester.test()
