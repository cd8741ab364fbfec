"""Loading a pre-trained backbone for a downstream task."""

import ast
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.exported import FORMAT, find_export, read_export
from pointins_plugin.hooks.bias_head import OffsetWeights, init_bias_head
from pointins_plugin.host import (
    HOOKS,
    Config,
    batch_to,
    comm,
    load_checkpoint,
    unwrapped,
)
from pointins_plugin.models.head_input import head_input
from pointins_plugin.paths import config_beside
from pointins_plugin.scene_transform import Recipe

BRANCHES = ("student", "teacher")
_DECODER = "backbone.dec."
_STEMS = ("embedding.", "conv_input.")  # where a backbone begins
_MOST_POINTS = 20_000  # that the bias head is fitted on, over all processes


def backbone_weights(
    state: dict[str, Tensor], branch: str, path: str
) -> dict[str, Tensor]:
    """Return a pre-trained backbone under the names ``backbone.*``.

    Args:
        state: weights of a checkpoint.
        branch: ``"student"`` or ``"teacher"``; a checkpoint of neither (a supervised
            model, an encoder by itself) gives its ``backbone``.
        path: of the checkpoint, for errors.

    Raises:
        UserError: it has no such backbone.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    for prefix in (f"{branch}.backbone.", "backbone."):
        found = {
            f"backbone.{key.removeprefix(prefix)}": value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        if found:
            return found
    bare = not any("backbone." in key for key in state)
    if bare and any(key.startswith(_STEMS) for key in state):
        return {f"backbone.{key}": value for key, value in state.items()}
    other = next((b for b in BRANCHES if f"{b}.backbone" in " ".join(state)), None)
    hint = f"it has that of the {other}" if other else "it has no backbone at all"
    raise UserError(
        f"checkpoint {path} has no backbone of the {branch} ({hint}); give a "
        "checkpoint of pre-training"
    )


def load_backbone(
    model: nn.Module,
    state: dict[str, Tensor],
    branch: str,
    path: str,
    min_matched: float = 0.9,
    say: Callable[[str], None] = lambda text: None,
    allow_partial: bool = False,
) -> float:
    """Give a downstream model the backbone of a pre-training checkpoint.

    A decoder, which pre-training has not, is left as it is.

    Args:
        model: whose ``backbone`` is filled.
        state: weights of the checkpoint.
        branch: ``"student"`` or ``"teacher"``.
        path: of the checkpoint, for errors.
        min_matched: least share of the backbone's keys, the decoder's left out.
        say: told what was loaded and what was not.
        allow_partial: take whatever fits.

    Returns:
        The share of keys that matched.

    Raises:
        UserError: the checkpoint has no such backbone, a weight of it has another
            shape, one that is not trained is missing, or too little of it fits.
    """
    given = backbone_weights(state, branch, path)
    own = model.state_dict()
    decoded = any(key.startswith(_DECODER) for key in given)
    wanted = [
        key
        for key in own
        if key.startswith("backbone.") and (decoded or not key.startswith(_DECODER))
    ]
    fitting = {
        key: given[key]
        for key in wanted
        if key in given and given[key].shape == own[key].shape
    }
    matched = len(fitting) / len(wanted) if wanted else 0.0
    text = (
        f"{len(fitting)} of {len(wanted)} keys of the backbone matched the {branch}'s "
        f"({matched:.1%})"
    )
    missing = [key for key in wanted if key not in fitting]
    if not allow_partial:
        _refuse_other_shapes(own, given, missing, path)
    if matched < min_matched and not allow_partial:
        first = missing[0] if missing else "backbone.*"
        raise UserError(
            f"checkpoint {path}: {text}, {min_matched:.0%} are needed (first without a "
            f"match: {first}); give model.backbone the keywords of pre-training"
        )
    if not allow_partial:
        _refuse_random(model, missing, path)
    say(f"Loaded {path}: {text}")
    anew = sum(key.startswith(_DECODER) for key in own) * (not decoded)
    unused = [key for key in given if key not in fitting]
    if missing:
        say(f"Keys of the backbone kept as they were: {', '.join(missing)}")
    if anew:
        say(f"The decoder starts anew: {anew} keys")
    if unused:
        say(f"Keys of the checkpoint's backbone not used: {', '.join(unused)}")
    model.load_state_dict(fitting, strict=False)
    return matched


def _refuse_other_shapes(
    own: dict[str, Tensor], given: dict[str, Tensor], missing: list[str], path: str
) -> None:
    for key in missing:
        if key not in given:
            continue
        stem = key.removeprefix("backbone.").startswith(_STEMS)
        places = ".in_channels and Collect's feat_keys those" if stem else " that"
        raise UserError(
            f"checkpoint {path}: {key} is {_shape(given[key])} there and "
            f"{_shape(own[key])} in the model; give model.backbone{places} of "
            "pre-training, or PretrainedLoader allow_partial=True"
        )


def _refuse_random(model: nn.Module, missing: list[str], path: str) -> None:
    """Raise an error where weights that nothing trains would stay random."""
    trained = {
        name.rpartition(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    frozen = [key for key in missing if key.rpartition(".")[0] not in trained]
    if frozen:
        raise UserError(
            f"checkpoint {path} lacks {len(frozen)} keys that the frozen backbone "
            f"needs (first: {frozen[0]}); give model.backbone the keywords of "
            "pre-training, or PretrainedLoader allow_partial=True"
        )


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


@HOOKS.register_module()
class PretrainedLoader(HOOKS.get("CheckpointLoader")):
    """Load the backbone of a pre-training checkpoint into a downstream model.

    In the place of ``CheckpointLoader``, whose work it does when a run resumes. The
    share of the backbone's keys that matched is logged and kept in ``matched``; a
    decoder, which pre-training has not, starts anew. What ``pointins export`` wrote is
    read as well. Cells and features other than those of pre-training are a warning.

    Args:
        branch: ``"student"`` or ``"teacher"``.
        min_matched: least share of the backbone's keys, the decoder's left out. Keys
            of another shape, and missing ones that are not trained, are an error
            whatever the share.
        init_bias_head: let PointGroup's bias head start as the pre-trained offset
            head; where the heads see the encoder's features.
        init_batches: training batches that the bias head is fitted on.
        required: refuse to train without a checkpoint.
        allow_partial: train on whatever was matched.

    Raises:
        UserError: no checkpoint given, or it does not fit.
    """

    def __init__(
        self,
        branch: str = "student",
        min_matched: float = 0.9,
        init_bias_head: bool = False,
        init_batches: int = 4,
        required: bool = True,
        allow_partial: bool = False,
    ):
        super().__init__()
        if branch not in BRANCHES:
            raise UserError(
                f"config: PretrainedLoader branch={branch!r}; use 'student' or "
                "'teacher'"
            )
        self.branch = branch
        self.min_matched = min_matched
        self.init_bias_head = init_bias_head
        self.init_batches = init_batches
        self.required = required
        self.allow_partial = allow_partial
        self.matched: float | None = None

    def before_train(self) -> None:
        trainer = self.trainer
        if trainer.cfg.resume:
            super().before_train()
            return
        path = trainer.cfg.weight
        if not path:
            if self.required:
                raise UserError(
                    "PretrainedLoader: no weights given: name a pre-training "
                    "checkpoint by -w, or use the -scratch config"
                )
            trainer.logger.info("No weight given: the backbone starts from scratch")
            return
        export = find_export(path)
        if export is None:
            state, recipe = load_checkpoint(path)["state_dict"], _trained_with(path)
        else:
            state, recipe = self._of_export(export)
        _warn_of_input(recipe, trainer)
        model = unwrapped(trainer.model)
        self.matched = load_backbone(
            model,
            state,
            self.branch,
            path,
            self.min_matched,
            trainer.logger.info,
            self.allow_partial,
        )
        if self.init_bias_head:
            self._init_bias_head(model, OffsetWeights.of(state, self.branch, path))

    def _of_export(self, export: Path) -> tuple[dict[str, Tensor], Recipe]:
        spec, state = read_export(export, FORMAT)
        held = spec["source"]["branch"]
        if held not in (None, self.branch) or self.init_bias_head:
            needed = "init_bias_head" if self.init_bias_head else self.branch
            raise UserError(
                f"PretrainedLoader: {export} is an export of the {held or 'backbone'}; "
                f"for {needed} give the checkpoint that it was exported from"
            )
        return state, Recipe.of_dict(spec["scene"])

    def _init_bias_head(self, model: nn.Module, weights: OffsetWeights) -> None:
        if not hasattr(model, "bias_head"):
            raise UserError(
                f"PretrainedLoader: init_bias_head, but {type(model).__name__} has no "
                "bias head"
            )
        channels = self.trainer.cfg.model.backbone.get("enc_channels", ())
        found = model.bias_head[0].in_features
        columns = weights.feature_columns(tuple(channels), found)
        batches = islice(self.trainer.train_loader, self.init_batches)
        feature = head_inputs(model, model.bias_head, batches)
        r2 = init_bias_head(model.bias_head, weights, columns, feature)
        self.trainer.logger.info(
            f"The bias head starts as the {self.branch}'s offset head (R^2 of its "
            f"offsets {r2:.3f} on {len(feature)} points)"
        )


def _trained_with(path: str) -> Recipe | None:
    """Return what a checkpoint's backbone took, by the config that its run wrote.

    A config that is more than values, and might do anything, is not run for it.
    """
    try:
        file = config_beside(Path(path))
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        calls = [node.func for node in nodes if isinstance(node, ast.Call)]
        plain = all(isinstance(call, ast.Name) and call.id == "dict" for call in calls)
        kinds = (ast.Import, ast.ImportFrom, ast.Attribute, ast.Subscript)
        if not plain or "_base_" in names or any(isinstance(n, kinds) for n in nodes):
            return None
        return Recipe.of_config(Config.fromfile(str(file)))
    except (UserError, OSError, ValueError, SyntaxError):
        return None


def _warn_of_input(recipe: Recipe | None, trainer: Any) -> None:
    """Warn where a backbone is given other cells or features than it was trained on."""
    try:
        own = Recipe.of_config(trainer.cfg)
    except UserError:
        return
    if recipe is None:
        return
    differ = [
        f"{name}={was}, here {now}"
        for name, was, now in (
            ("grid_size", recipe.grid_size, own.grid_size),
            ("feat_keys", recipe.features, own.features),
        )
        if was != now
    ]
    if differ:
        trainer.logger.warning(
            f"Pre-training had {'; '.join(differ)}: features of another input are not "
            "those that were trained; give the same to all transforms"
        )


@torch.no_grad()
def head_inputs(model: nn.Module, head: nn.Module, batches: Any) -> Tensor:
    """Return what a head of a model sees on some batches, (N, C), thinned.

    The rows of all processes are put together, so that all see the same.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    seen = []
    try:
        for batch in batches:
            batch = batch_to(batch, device)
            seen.append(head_input(head, partial(model, batch)))
    finally:
        model.train(was_training)
    rows = torch.cat(seen) if seen else torch.zeros(0, 1)
    most = _MOST_POINTS // comm.get_world_size()
    rows = rows[:: max(1, -(-len(rows) // most))]
    parts = comm.all_gather(rows.cpu())
    return torch.cat([part.to(device) for part in parts])
