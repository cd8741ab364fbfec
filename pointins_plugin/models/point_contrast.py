"""PointContrast: one network that finds the same place in two views."""

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import LOSSES, MODELS, Point, PointModel, build_model
from pointins_plugin.losses.contrast import unit_vectors
from pointins_plugin.models.heads import init_linear
from pointins_plugin.models.tokens import (
    backbone_tokens,
    grid_coordinates,
    grid_size_of,
    token_stride,
    up_cast_channels,
)
from pointins_plugin.ops.neighbours import pairs_within

# Entries of a view: those that every batch holds, and one that some do.
_KEYS = ("coord", "origin_coord", "feat")
_GRID = "grid_coord"


@MODELS.register_module()
class PointContrast(PointModel):
    """Pre-train a point backbone by contrasting points of two partial views.

    The two views of a scene go through one network; points (or tokens) that lie close
    together before augmentation are matches. The baseline of ``PointINS`` on the same
    backbones and batches. The network is called ``student``, so that checkpoints load
    downstream with the keywords of Sonata and PointINS; there is no teacher.

    Args:
        backbone: config of a backbone; hierarchical ones need ``traceable=True``.
        loss: config of ``HardestContrastiveLoss`` or ``PointInfoNCELoss``.
        head_in_channels: channels of the up-cast features; None sums the backbone's
            ``enc_channels`` over the levels passed.
        embed_channels: channels that are contrasted, by one linear layer.
        up_cast_level: pools undone to reach the tokens; 0 for sparse convolutions.
        token_pool: grid cells along a token where a backbone has a feature for every
            point; 1 contrasts points.
        match_max_r: matches are closer than this in the origin frame, metres.
        match_max_k: largest number of matches of a point of the first view.

    Batch: as ``PointINS``'s (``global_coord``, ``global_origin_coord``,
    ``global_feat``, ``global_offset``, ``grid_size``), two views a scene; or that of
    pair datasets, ``view1_*`` and ``view2_*``. ``*_grid_coord`` (N, 3), where there,
    takes the place of ``grid_size``.

    Returns in training ``loss`` and what tells learning from its semblance:
    ``matched_cosine`` and ``unmatched_cosine`` of the contrasted features, and
    ``matches``, the number of pairs a scene.

    Source: PointContrast (ECCV 2020). On a hierarchical Transformer the up-cast
    tokens stand in for the points of its sparse U-Net.
    """

    def __init__(
        self,
        backbone: dict,
        loss: dict,
        head_in_channels: int | None = None,
        embed_channels: int = 32,
        up_cast_level: int = 2,
        token_pool: int = 1,
        match_max_r: float = 0.08,
        match_max_k: int = 8,
    ):
        super().__init__()
        token_stride(tuple(backbone.get("stride", ())), up_cast_level)
        if head_in_channels is None:
            head_in_channels = up_cast_channels(backbone, up_cast_level)
        head = nn.Linear(head_in_channels, embed_channels)
        init_linear(head)
        self.student = nn.ModuleDict(
            {"backbone": build_model(backbone), "contrast_head": head}
        )
        self.loss = LOSSES.build(loss)
        self.up_cast_level = up_cast_level
        self.token_pool = token_pool
        self.match_max_r = match_max_r
        self.match_max_k = match_max_k

    def forward(self, data_dict: dict, return_point: bool = False) -> dict:
        """Return the losses of a batch of view pairs, or the tokens of clouds.

        With ``return_point`` the batch is a plain one (``coord``, ``feat``,
        ``offset``, ``grid_coord`` or ``grid_size``) and the result is
        ``dict(point=tokens)``, as Sonata's is.
        """
        if return_point:
            return {"point": self._tokens(data_dict)}
        views, second = _views(data_dict)
        # One draw from the global generator seeds all of the step's own randomness:
        # the same on CPU and GPU, and reproducible from the step's seed alone.
        seed = int(torch.randint(2**62, ()).item())
        generator = torch.Generator().manual_seed(seed)
        tokens = self._tokens(views)
        feature = self.student["contrast_head"](tokens.feat)
        with torch.no_grad():
            sides = [_clouds(tokens, second == side) for side in (False, True)]
            pairs = pairs_within(
                tokens.origin_coord[sides[0][0]].float(),
                tokens.origin_coord[sides[1][0]].float(),
                sides[0][1],
                sides[1][1],
                self.match_max_r,
                self.match_max_k,
            )
        query, key = (feature[index] for index, _ in sides)
        loss = self.loss(query, key, pairs, generator)
        matched, unmatched = _cosines(query.detach(), key.detach(), pairs)
        return {
            "loss": loss,
            "matched_cosine": matched,
            "unmatched_cosine": unmatched,
            "matches": loss.new_tensor(len(pairs) / max(len(sides[0][1]), 1)),
        }

    def _tokens(self, views: dict[str, Any]) -> Point:
        return backbone_tokens(
            self.student["backbone"],
            Point(views),
            self.up_cast_level,
            pool=self.token_pool,
        )[0]


def _views(data_dict: dict) -> tuple[dict[str, Any], Tensor]:
    """Return the views as one batch of clouds, and which clouds are second views."""
    if "view1_coord" in data_dict:
        kinds = ("view1", "view2")
        ends = [data_dict[f"{kind}_offset"] for kind in kinds]
        offset = torch.cat([ends[0], ends[0][-1] + ends[1]])
        second = torch.arange(len(offset), device=offset.device) >= len(ends[0])
    else:
        kinds = ("global",)
        offset = _entry(data_dict, "global_offset")
        second = torch.arange(len(offset), device=offset.device) % 2 == 1
        if len(offset) % 2:
            raise UserError(
                f"batch: {len(offset)} views are no pairs: PointContrast needs 2 views "
                "of a scene (global_view_num=2)"
            )
    keys = [*_KEYS, _GRID] if f"{kinds[0]}_{_GRID}" in data_dict else _KEYS
    views = {
        key: torch.cat([_entry(data_dict, f"{kind}_{key}") for kind in kinds])
        for key in keys
    }
    views["offset"] = offset
    if _GRID not in views:
        grid_size = grid_size_of(_entry(data_dict, "grid_size"))
        views[_GRID] = grid_coordinates(views["coord"], offset, grid_size)
    return views, second


def _entry(data_dict: dict, key: str) -> Tensor:
    if key not in data_dict:
        raise UserError(f"batch: {key} is not there; add it to the keys of Collect")
    return data_dict[key]


def _clouds(tokens: Point, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens of the wanted clouds, and their cumulative counts."""
    chosen = wanted[tokens.batch]
    count = torch.bincount(tokens.batch[chosen], minlength=len(wanted))[wanted]
    return torch.nonzero(chosen)[:, 0], torch.cumsum(count, 0)


def _cosines(query: Tensor, key: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cosine of matches, and of points with far rows' matches."""
    first, second = pairs.unbind(1)
    query, key = unit_vectors(query[first]), unit_vectors(key[second])
    matched = (query * key).sum(1)
    unmatched = (query * key.roll(len(key) // 2, 0)).sum(1)
    return matched.sum() / max(len(first), 1), unmatched.sum() / max(len(first), 1)
