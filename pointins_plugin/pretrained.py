"""Pre-trained encoders: from a checkpoint or an exported file to a model to use."""

import inspect
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.grouping import Grouping
from pointins_plugin.exported import FORMAT, find_export, read_export
from pointins_plugin.hooks.pretrained import BRANCHES, backbone_weights
from pointins_plugin.host import (
    MODELS,
    Config,
    build_model,
    load_checkpoint,
    plain_values,
)
from pointins_plugin.models.encoder import Encoder
from pointins_plugin.models.heads import OffsetHead
from pointins_plugin.models.tokens import token_stride
from pointins_plugin.paths import config_beside, find_config
from pointins_plugin.priors import NUM_KNOTS
from pointins_plugin.scene_transform import Recipe, SceneTransform


@dataclass(frozen=True)
class Pretrained:
    """An encoder that is ready, and what goes with it.

    Attributes:
        spec: plain values that build it again (``pointins export`` writes them).
        weights: its parameters, ``backbone.*`` and ``offset_head.*``.
    """

    spec: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def recipe(self) -> Recipe:
        """What becomes of a scene before the encoder."""
        return Recipe.of_dict(self.spec["scene"])

    @property
    def grouping(self) -> Grouping | None:
        """How its offsets become instances; None where it predicts none."""
        options = self.spec["grouping"]
        return None if options is None else Grouping(**options)

    def build(self, **custom: Any) -> Encoder:
        """Build the encoder with its weights, in evaluation mode.

        Args:
            **custom: keywords of the backbone that differ (``enable_flash=False``).

        Raises:
            UserError: weights that do not fit the config.
        """
        backbone = build_model({**self.spec["backbone"], **custom})
        head, options = self.spec["offset_head"], {}
        if head is not None:
            options = {
                "offset_head": OffsetHead(head["in_channels"], head["hidden_channels"]),
                "unit": head["unit"],
                "relative_position": head["relative_position"],
                "token_size": head.get("token_size"),
            }
        encoder = Encoder(
            backbone,
            self.spec["up_cast_level"],
            self.spec["token_pool"],
            self.spec["token_stride"],
            **options,
        )
        own = encoder.state_dict()
        odd = sorted(own.keys() ^ self.weights.keys()) or [
            key for key in own if own[key].shape != self.weights[key].shape
        ]
        if odd:
            raise UserError(
                f"the weights of {self.spec['source']['file']} do not fit its config: "
                f"{len(odd)} keys differ (first: {odd[0]}); give the config it was "
                "trained with"
            )
        encoder.load_state_dict(self.weights)
        return encoder.eval()


def load(
    path: str | os.PathLike,
    branch: str | None = None,
    up_cast: int | str = "tokens",
    config: str | None = None,
    **custom: Any,
) -> tuple[Encoder, SceneTransform]:
    """Return a pre-trained encoder, and the transform of the scenes it takes.

        model, transform = pointins_plugin.load("encoder.safetensors")
        point = model(transform(scene))       # scene: coord (N, 3), color, normal
        feature = point.feat[point.inverse]   # (N, C), a row for each of its points

    Args:
        path: what ``pointins export`` wrote (file or folder), or a checkpoint with its
            run's ``config.py`` beside it. An exported file runs no code; a
            ``config.py`` is Python and is run.
        branch: ``"student"`` or ``"teacher"`` of a checkpoint; the student by default.
        up_cast: features to return: ``"tokens"``, the level at which the network was
            trained; a number of pools to undo; ``"all"`` of them (Sonata's downstream
            features); 0 the coarsest alone, as the backbone returns them, with
            ``pooling_parent`` and ``pooling_inverse`` to go on by hand.
        config: of a checkpoint that has none beside it, a file or ``pointins/NAME``.
        **custom: keywords of the backbone that differ (``enable_flash=False``).

    Returns:
        The model in evaluation mode, on the CPU, and the transform. The model is
        called with what the transform returns (moved to its device), and the same
        scene gives the same features.

    Raises:
        UserError: no such file, damaged or foreign, or weights that do not fit.
    """
    pretrained = read_pretrained(path, branch, config)
    encoder = pretrained.build(**custom)
    if up_cast == "all":
        encoder.up_cast = None
    elif up_cast != "tokens":
        if not isinstance(up_cast, int) or up_cast < 0:
            raise UserError(
                f"load: up_cast={up_cast!r}; give 'tokens', 'all' or a number of pools"
            )
        encoder.up_cast = up_cast
    return encoder, SceneTransform(pretrained.recipe)


def read_pretrained(
    path: str | os.PathLike, branch: str | None = None, config: str | None = None
) -> Pretrained:
    """Read what ``load`` builds, with the same arguments and errors."""
    if branch not in (None, *BRANCHES):
        raise UserError(f"branch {branch!r}: use one of {', '.join(BRANCHES)}")
    export = find_export(path)
    if export is None:
        return _read_run(Path(path), branch or "student", config)
    spec, weights = read_export(export, FORMAT)
    held = spec["source"]["branch"]
    if branch is not None and held is None:
        raise UserError(f"{export} has no branches; leave --branch out")
    if branch not in (None, held):
        raise UserError(
            f"{export} holds the {held}, not the {branch}; export the checkpoint again "
            f"with --branch {branch}"
        )
    return Pretrained(spec, weights)


def _read_run(path: Path, branch: str, config: str | None) -> Pretrained:
    """Return a branch of a checkpoint; neither trunk nor data are built."""
    checkpoint = load_checkpoint(str(path))
    cfg = Config.fromfile(find_config(config) if config else config_beside(path))
    model = cfg["model"] if "model" in cfg else {}
    if not isinstance(model.get("backbone"), dict):
        raise UserError(f"config {cfg.filename}: its model has no backbone")
    state = {k.removeprefix("module."): v for k, v in checkpoint["state_dict"].items()}
    weights = backbone_weights(state, branch, str(path))
    own_branch = f"{branch}.backbone." in " ".join(state)
    owner = f"{branch}." if own_branch else ""
    head = {
        key.removeprefix(owner): value
        for key, value in state.items()
        if key.startswith(f"{owner}offset_head.")
    }
    weights.update(head)
    backbone = {**model["backbone"]}
    if branch == "teacher" and own_branch:
        backbone.update(model.get("teacher_custom") or {})
    level = _option(model, "up_cast_level")
    pool = _option(model, "token_pool") or 1
    strides = tuple(backbone.get("stride") or ())
    stride = pool * token_stride(strides, len(strides) if level is None else level)
    recipe = Recipe.of_config(cfg)
    spec = {
        "format": FORMAT,
        "source": {
            "file": path.name,
            "branch": branch if own_branch else None,
            "model": model.get("type"),
            "epoch": checkpoint.get("epoch"),
        },
        "backbone": plain_values(backbone),
        "up_cast_level": level,
        "token_pool": pool,
        "token_stride": stride,
        "offset_head": None,
        "scene": plain_values(asdict(recipe)),
        "grouping": None,
    }
    if head:
        table = state.get("offset_branch.prior.magnitude_prior")
        options = model.get("offset_branch")
        if table is None or not options:
            raise UserError(
                f"checkpoint {path} has an offset head, but not its unit of length or "
                f"no offset_branch in {cfg.filename}; give the config it was trained "
                "with"
            )
        unit = float(table[NUM_KNOTS // 2])
        hidden, channels = head["offset_head.mlp.0.weight"].shape
        spec["offset_head"] = {
            "in_channels": channels,
            "hidden_channels": hidden,
            "unit": unit,
            "relative_position": bool(options.get("relative_position", False)),
            "token_size": _option(model, "token_size"),
        }
        pitch = spec["offset_head"]["token_size"] or recipe.grid_size * stride
        spec["grouping"] = plain_values(
            asdict(_grouping(cfg, pitch, unit, options.get("ground")))
        )
    return Pretrained(spec, weights)


def _option(model: dict[str, Any], name: str) -> Any:
    """Return an option of a model's config, or its default; None where it has none."""
    if name in model:
        return model[name]
    kind = MODELS.get(model.get("type"))
    known = {} if kind is None else inspect.signature(kind).parameters
    return known[name].default if name in known else None


def _grouping(cfg: Any, pitch: float, unit: float, ground: Any) -> Grouping:
    """Return the grouping that a run is evaluated by, or one that fits its tokens."""
    for hook in cfg["hooks"] if "hooks" in cfg else ():
        if hook["type"] == "LabelFreeInstanceEvaluator":
            names = ("radius", "bandwidth", "min_size", "planes", "smoothing", "ground")
            options = {name: hook[name] for name in names if name in hook}
            return Grouping(**plain_values({"planes": {}, **options}))
    return Grouping(
        radius=0.75 * pitch,
        bandwidth=0.4 * unit,
        planes={"threshold": 0.6 * pitch, "min_share": 0.1},
        smoothing={"rounds": 2, "num_neighbours": 11, "reach": 3 * pitch},
        ground=ground,
    )
