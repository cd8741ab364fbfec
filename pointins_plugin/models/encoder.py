"""What of a pre-trained model others use: its backbone, up-cast and offset head."""

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import Point, in_evaluation
from pointins_plugin.models.tokens import (
    backbone_tokens,
    cell_tokens,
    grid_coordinates,
    grid_size_of,
    input_to_token,
)

_KEYS = ("coord", "feat", "offset", "grid_coord")


class Encoder(nn.Module):
    """Features of plain (unaugmented) clouds and, with a head, offsets of their points.

    Its parameters are ``backbone.*`` and ``offset_head.*``, as in a student or teacher.

    Args:
        backbone: returns a Point, or features of the points it was given.
        up_cast_level: pools undone to reach the tokens; None undoes all.
        token_pool: cells along a token where a backbone has a feature for every point.
        token_stride: cells of the input along a token of the offset head.
        offset_head: predicts offsets of tokens in units, or None.
        unit: the head's unit of length, metres.
        relative_position: give the head the vectors of the up-cast too.
        token_size: edge of the cubes that the head's tokens are averaged over, metres;
            None where the up-cast's tokens are the head's.

    Attributes:
        up_cast: pools that ``forward`` undoes, ``up_cast_level`` unless it is set; the
            offset head keeps to that.
    """

    def __init__(
        self,
        backbone: nn.Module,
        up_cast_level: int | None = 0,
        token_pool: int = 1,
        token_stride: int = 1,
        offset_head: nn.Module | None = None,
        unit: float = 1.0,
        relative_position: bool = False,
        token_size: float | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.up_cast_level = up_cast_level
        self.token_pool = token_pool
        self.token_stride = token_stride
        self.offset_head = offset_head
        self.unit = unit
        self.relative_position = relative_position
        self.token_size = token_size
        self.up_cast = up_cast_level

    def forward(self, data_dict: dict[str, Any]) -> Point:
        """Return the tokens of clouds.

        Args:
            data_dict: ``coord`` (N, 3) metres, ``feat`` (N, C), ``offset`` (B,)
                cumulative, and ``grid_coord`` (N, 3) or ``grid_size``; ``inverse``
                (M,), the point of each original point, if it was sampled (one cloud).

        Returns:
            ``feat``, ``coord``, ``offset``, ... of the tokens, and ``inverse``, the
            token of each original point, so that ``feat[inverse]`` are its features.
            In evaluation mode equal clouds give equal features.
        """
        pool = self.token_pool if self.up_cast == self.up_cast_level else 1
        tokens, _ = self._tokens(data_dict, self.up_cast, pool=pool)
        inverse = input_to_token(tokens)
        if "inverse" in data_dict:
            inverse = inverse[data_dict["inverse"]]
        tokens["inverse"] = inverse
        return tokens

    @torch.no_grad()
    def predict_offsets(self, data_dict: dict[str, Any]) -> dict[str, Tensor]:
        """Predict an offset for every input point.

        Args:
            data_dict: as in ``forward``.

        Returns:
            ``coord`` and ``shift`` (N, 3) metres in the input frame, ``offset`` (B,),
            ``feat`` (N, C) the token features at the points. A point's centre is its
            token's: the shift is corrected by their distance.

        Raises:
            UserError: there is no offset head, or no ``grid_size`` that it needs.
        """
        if self.offset_head is None:
            raise UserError(
                "model PointINS has no offset branch, so that it predicts no offsets: "
                "set offset_branch=dict(...) or remove the evaluator from hooks"
            )
        size = 1.0
        if data_dict.get("grid_size") is not None:
            size = grid_size_of(data_dict["grid_size"])
        elif self.relative_position:
            raise UserError("batch: collect grid_size, the offset head needs its unit")
        tokens, relative = self._tokens(
            data_dict, self.up_cast_level, size * self.token_stride, self.token_pool
        )
        owner = input_to_token(tokens)
        coord = data_dict["coord"].float()
        if self.token_size is not None:
            tokens, owner = cell_tokens(
                coord, tokens.feat[owner], data_dict["offset"], self.token_size
            )
        shift = self.token_offsets(tokens.feat, relative).float()
        centre = tokens.coord.float() + shift
        return {
            "coord": coord,
            "shift": centre[owner] - coord,
            "offset": data_dict["offset"],
            "feat": tokens.feat[owner],
        }

    def token_offsets(self, feature: Tensor, relative: Tensor) -> Tensor:
        """Return the offsets (N, 3) of tokens, metres.

        Args:
            feature: (N, C); relative: (N, 3 * level), from ``backbone_tokens``.
        """
        if self.relative_position:
            feature = torch.cat([feature, relative.to(feature.dtype)], dim=1)
        return self.offset_head(feature) * self.unit

    def _tokens(
        self, data_dict: dict[str, Any], *args: Any, **options: Any
    ) -> tuple[Point, Tensor]:
        """Return tokens and vectors of the up-cast, in evaluation always the same."""
        given = self.backbone, self._input(data_dict), *args
        if self.backbone.training:
            return backbone_tokens(*given, **options)
        return in_evaluation(backbone_tokens, *given, **options)

    def _input(self, data_dict: dict[str, Any]) -> Point:
        point = Point({key: data_dict[key] for key in _KEYS if key in data_dict})
        if "grid_coord" not in point.keys():
            size = data_dict.get("grid_size")
            if size is None:
                raise UserError(
                    "batch: neither grid_coord nor grid_size is there; collect one"
                )
            point["grid_coord"] = grid_coordinates(
                point.coord, point.offset, grid_size_of(size)
            )
        return point
