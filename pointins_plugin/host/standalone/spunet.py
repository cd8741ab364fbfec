"""SpUNet: a U-Net of sparse residual blocks.

Configuration keys, state-dict names and numbers are those of Pointcept's
``SpUNet-v1m1``, so that checkpoints cross both ways.
Source: the sparse U-Net of Choy et al., MinkowskiNet (CVPR 2019), on Graham et al.,
submanifold sparse convolutional networks (CVPR 2018).
"""

from functools import partial

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.ops.segments import segment_mean
from pointins_plugin.ops.sparse_conv import pack_voxels

from .convolutions import SparseConv3d, SparseInverseConv3d, SubMConv3d
from .modules import PointModule, PointSequential
from .point import Point
from .registry import MODELS

_norm = partial(nn.BatchNorm1d, eps=1e-3, momentum=0.01)


class BasicBlock(PointModule):
    """Two submanifold convolutions around a shortcut, projected where widths differ."""

    def __init__(self, in_channels: int, embed_channels: int, indice_key: str):
        super().__init__()
        if in_channels == embed_channels:
            self.proj = PointSequential(nn.Identity())
        else:
            self.proj = PointSequential(
                SubMConv3d(in_channels, embed_channels, 1, bias=False),
                _norm(embed_channels),
            )
        conv = partial(SubMConv3d, kernel_size=3, bias=False, indice_key=indice_key)
        self.conv1 = conv(in_channels, embed_channels)
        self.bn1 = _norm(embed_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(embed_channels, embed_channels)
        self.bn2 = _norm(embed_channels)

    def forward(self, point: Point) -> Point:
        feat = point.feat
        shortcut = self.proj(point).feat
        point.feat = feat
        point = self.conv1(point)
        point.feat = self.relu(self.bn1(point.feat))
        point = self.conv2(point)
        point.feat = self.relu(self.bn2(point.feat).add_(shortcut))
        return point


def _stage(layers: int, first: int, channels: int, indice_key: str) -> PointSequential:
    """Chain blocks of one resolution; the first takes ``first`` channels."""
    blocks = {}
    for i in range(layers):
        blocks[f"block{i}"] = BasicBlock(channels if i else first, channels, indice_key)
    return PointSequential(**blocks)


@MODELS.register_module("SpUNet-v1m1")
class SpUNetBase(nn.Module):
    """Sparse U-Net, or its encoder.

    Takes a batch dict with ``feat`` (N, in_channels), ``offset`` and ``grid_coord``, or
    ``coord`` and ``grid_size``. Returns features (N, num_classes), or (N, channels[-1])
    with ``num_classes=0``; with ``enc_mode`` one row a cloud (B, ...), the mean of the
    deepest stage, for classification.

    Args:
        in_channels, num_classes, base_channels: widths of input, output and stem.
        channels, layers: widths and blocks of the stages, down and then up.
        enc_mode: leave the decoder out.

    Raises:
        UserError: ``channels`` and ``layers`` do not go together.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        base_channels: int = 32,
        channels: tuple[int, ...] = (32, 64, 128, 256, 256, 128, 96, 96),
        layers: tuple[int, ...] = (2, 3, 4, 6, 2, 2, 2, 2),
        enc_mode: bool = False,
    ):
        super().__init__()
        if len(layers) % 2 or len(layers) != len(channels):
            raise UserError(
                f"SpUNet-v1m1: channels and layers need the same even number of "
                f"entries, found {len(channels)} and {len(layers)}"
            )
        if not enc_mode and not all(layers[len(layers) // 2 :]):
            raise UserError(
                "SpUNet-v1m1: every stage of the decoder needs a layer, which merges "
                f"it with the encoder's; found layers={tuple(layers)}"
            )
        self.in_channels, self.num_classes = in_channels, num_classes
        self.base_channels, self.channels, self.layers = base_channels, channels, layers
        self.num_stages = len(layers) // 2
        self.enc_mode = enc_mode

        self.conv_input = PointSequential(
            SubMConv3d(in_channels, base_channels, 5, bias=False, indice_key="stem"),
            _norm(base_channels),
            nn.ReLU(inplace=True),
        )
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.enc = nn.ModuleList()
        self.dec = None if enc_mode else nn.ModuleList()
        finer = base_channels
        for s in range(self.num_stages):
            width, key = channels[s], f"spconv{s + 1}"
            self.down.append(
                PointSequential(
                    SparseConv3d(finer, width, 2, 2, bias=False, indice_key=key),
                    _norm(width),
                    nn.ReLU(inplace=True),
                )
            )
            self.enc.append(_stage(layers[s], width, width, f"subm{s + 1}"))
            if not enc_mode:
                # The up path counts from the end: stage s ends it at resolution s.
                below, out = channels[-s - 2], channels[-s - 1]
                self.up.append(
                    PointSequential(
                        SparseInverseConv3d(below, out, 2, key, bias=False),
                        _norm(out),
                        nn.ReLU(inplace=True),
                    )
                )
                stage = _stage(layers[-s - 1], out + finer, out, f"subm{s}")
                self.dec.append(stage)
            finer = width

        last = channels[self.num_stages - 1] if enc_mode else channels[-1]
        self.final = (
            SubMConv3d(last, num_classes, 1) if num_classes > 0 else nn.Identity()
        )
        self.apply(_init_weights)

    def forward(self, input_dict: dict) -> Tensor:
        point = Point(
            {
                key: input_dict[key]
                for key in ("coord", "grid_coord", "grid_size", "feat", "offset")
                if key in input_dict
            }
        )
        if point.feat.shape[1] != self.in_channels:
            raise UserError(
                f"SpUNet-v1m1: the batch's feat has {point.feat.shape[1]} channels, "
                f"the backbone was built for {self.in_channels}: set in_channels or "
                "the feat_keys of Collect"
            )
        point.sparsify()
        # Neighbours in space become neighbours in memory.
        order = torch.argsort(pack_voxels(point.grid_coord, point.batch), stable=True)
        for key in ("feat", "grid_coord", "batch"):
            point[key] = point[key].index_select(0, order)
        point = self.conv_input(point)
        skips = []
        for down, enc in zip(self.down, self.enc, strict=True):
            skips.append(point.feat)
            point = enc(down(point))
        if not self.enc_mode:
            for s in reversed(range(self.num_stages)):
                point = self.up[s](point)
                point.feat = torch.cat([point.feat, skips[s]], dim=1)
                point = self.dec[s](point)
        if self.num_classes > 0:
            point = self.final(point)
        if self.enc_mode:
            return segment_mean(point.feat, point.batch, len(point.offset))
        return point.feat.index_select(0, torch.argsort(order))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, SubMConv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
