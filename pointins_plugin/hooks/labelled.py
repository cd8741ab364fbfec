"""What evaluators of labelled training look at as it starts: classes and labels."""

from collections.abc import Mapping
from typing import Any

import torch

from pointins_plugin.errors import UserError
from pointins_plugin.hooks.validation import ValidationHook

# Batches of a run whose labels are looked at: on a GPU each look waits for it.
_LOOKS = 20
# Models whose `semantic_num_classes` are all classes; SGIFormer's are the things.
_OF_ALL_CLASSES = ("PG-v1m1", "PG-v1m2", "PG-grouping", "PointGroupPanoptic")


class LabelledValidationHook(ValidationHook):
    """Evaluate after epochs, and see that what is trained on has classes to learn.

    Before training ``data.names``, ``data.num_classes`` and the number of classes of
    the model must agree. In the first 20 batches ``segment`` must be a class or
    ``data.ignore_index`` everywhere, and a class somewhere.

    Raises:
        UserError: they do not.
    """

    _looks = 0
    _labelled = False

    def before_train(self) -> None:
        super().before_train()
        self._looks, self._labelled = 0, False
        check_classes(self.trainer.cfg, type(self).__name__)

    def before_step(self) -> None:
        if self._looks == _LOOKS:
            return
        batch = self.trainer.comm_info["input_dict"]
        if "segment" not in batch:
            self._looks = _LOOKS
            return
        self._looks += 1
        data = self.trainer.cfg.data
        ignore_index = data.get("ignore_index", -1)
        labels = torch.unique(batch["segment"]).tolist()
        known = [label for label in labels if label != ignore_index]
        strange = [label for label in known if not 0 <= label < len(data.names)]
        if strange:
            raise UserError(
                f"data.train: label {strange[0]} in 'segment' is neither one of the "
                f"{len(data.names)} classes (0 to {len(data.names) - 1}, data.names) "
                f"nor data.ignore_index={ignore_index}; map the labels where the "
                "scenes are made, or name all classes"
            )
        self._labelled |= bool(known)
        if self._looks == min(_LOOKS, len(self.trainer.train_loader)):
            self._looks = _LOOKS
            if not self._labelled:
                raise UserError(
                    "data.train: no point of the first batches has a label, there is "
                    "nothing to learn from: 'segment' is data.ignore_index="
                    f"{ignore_index} everywhere; look at the scenes' labels, or "
                    "whether data.train.split holds labelled scenes"
                )


def check_classes(cfg: Any, owner: str) -> None:
    """See that the config's classes, names and model agree on their number.

    Args:
        cfg: the config; ``data.names`` and ``data.num_classes`` are read, and of
            ``model`` what it says of its classes.
        owner: who asks, for errors.

    Raises:
        UserError: one is missing, or they differ.
    """
    for key in ("names", "num_classes"):
        if cfg.data.get(key) is None:
            raise UserError(f"config: {owner} needs data.{key}; set it")
    count = len(cfg.data.names)
    said = {"data.num_classes": cfg.data.num_classes}
    model = cfg.get("model")
    if isinstance(model, Mapping):
        said["model.num_classes"] = model.get("num_classes")
        if model.get("type") in _OF_ALL_CLASSES:
            said["model.semantic_num_classes"] = model.get("semantic_num_classes")
    for key, value in said.items():
        if isinstance(value, int) and value != count:
            raise UserError(
                f"config: {key}={value}, but data.names has {count} "
                f"({', '.join(cfg.data.names)}); let them agree"
            )
