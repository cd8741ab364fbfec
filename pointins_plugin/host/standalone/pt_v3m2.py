"""Point Transformer V3, mode 2: serialized attention over a pooling hierarchy.

Configuration keys, state-dict names and numbers are those of Pointcept's
``PT-v3m2``, so that checkpoints cross both ways.
Source: Wu et al., Point Transformer V3 (CVPR 2024) and Sonata (CVPR 2025).
"""

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.ops.segments import segment_max, segment_mean

from .attention import SerializedAttention
from .convolutions import SubMConv3d
from .modules import PointModule, PointSequential
from .point import Point
from .registry import MODELS


class LayerScale(nn.Module):
    """Scale channels by learnable factors that start small."""

    def __init__(self, dim: int, init_values: float = 1e-5):
        super().__init__()
        self.gamma = nn.Parameter(init_values * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DropPath(nn.Module):
    """Drop a residual branch for a random share of the points, scaling the rest."""

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        keep = 1 - self.drop_prob
        mask = torch.empty(len(x), 1, device=x.device, dtype=x.dtype).bernoulli_(keep)
        return x * mask / keep


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        act_layer: type[nn.Module] = nn.GELU,
        drop: float = 0.0,
    ):
        super().__init__()
        self.fc1 = nn.Linear(in_channels, hidden_channels)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_channels, out_channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(PointModule):
    """Convolutional position encoding, attention and a perceptron, each residual."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        patch_size: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        pre_norm: bool = True,
        order_index: int = 0,
        cpe_indice_key: str | None = None,
        enable_rpe: bool = False,
        enable_flash: bool = True,
        upcast_attention: bool = True,
        upcast_softmax: bool = True,
    ):
        super().__init__()

        def scaled() -> PointSequential:
            if layer_scale is None:
                return PointSequential(nn.Identity())
            return PointSequential(LayerScale(channels, layer_scale))

        self.pre_norm = pre_norm
        self.cpe = PointSequential(
            SubMConv3d(channels, channels, 3, indice_key=cpe_indice_key),
            nn.Linear(channels, channels),
            nn.LayerNorm(channels),
        )
        self.norm1 = PointSequential(nn.LayerNorm(channels))
        self.ls1 = scaled()
        self.attn = SerializedAttention(
            channels=channels,
            num_heads=num_heads,
            patch_size=patch_size,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
            order_index=order_index,
            enable_rpe=enable_rpe,
            enable_flash=enable_flash,
            upcast_attention=upcast_attention,
            upcast_softmax=upcast_softmax,
        )
        self.norm2 = PointSequential(nn.LayerNorm(channels))
        self.ls2 = scaled()
        self.mlp = PointSequential(
            MLP(channels, int(channels * mlp_ratio), channels, drop=proj_drop)
        )
        self.drop_path = PointSequential(
            DropPath(drop_path) if drop_path > 0 else nn.Identity()
        )

    def forward(self, point: Point) -> Point:
        shortcut = point.feat
        point = self.cpe(point)
        point.feat = shortcut + point.feat
        point = self._residual(point, self.norm1, self.ls1, self.attn)
        return self._residual(point, self.norm2, self.ls2, self.mlp)

    def _residual(self, point: Point, norm, scale, branch) -> Point:
        shortcut = point.feat
        if self.pre_norm:
            point = norm(point)
        point = self.drop_path(scale(branch(point)))
        point.feat = shortcut + point.feat
        return point if self.pre_norm else norm(point)


# Attributes of a Point that pooling averages, and those it hands on.
_AVERAGED = ("origin_coord", "color")
_HANDED_ON = ("condition", "context", "name", "split")


class GridPooling(PointModule):
    """Pool points by cells ``stride`` times as large: features by maximum.

    The pooled Point keeps ``pooling_parent`` and ``pooling_inverse``, so that coarse
    features can be cast up again. Its orders are shuffled whatever the backbone's
    ``shuffle_orders`` says, in evaluation too: so does Pointcept.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 2,
        shuffle_orders: bool = True,
    ):
        super().__init__()
        self.stride = stride
        self.shuffle_orders = shuffle_orders
        self.proj = nn.Linear(in_channels, out_channels)
        self.norm = PointSequential(nn.LayerNorm(out_channels))
        self.act = PointSequential(nn.GELU())

    def forward(self, point: Point) -> Point:
        grid = torch.div(point.grid_coord, self.stride, rounding_mode="trunc").long()
        # One sortable key a cell, cloud first and then x, y, z.
        key = point.batch << 48 | grid[:, 0] << 32 | grid[:, 1] << 16 | grid[:, 2]
        key, cluster = torch.unique(key, return_inverse=True)
        num = len(key)
        low = (1 << 16) - 1
        attributes: dict[str, Any] = {
            "feat": segment_max(self.proj(point.feat), cluster, num),
            "coord": segment_mean(point.coord, cluster, num),
            "grid_coord": torch.stack([key >> 32 & low, key >> 16 & low, key & low], 1),
            "batch": key >> 48,
            "offset": torch.searchsorted(
                key >> 48,
                torch.arange(len(point.offset), device=key.device),
                right=True,
            ),
        }
        for name in _AVERAGED:
            # A validation batch has the points before sampling as origin_coord.
            if name in point and len(point[name]) == len(cluster):
                attributes[name] = segment_mean(point[name], cluster, num)
        for name in _HANDED_ON:
            if name in point:
                attributes[name] = point[name]
        if "grid_size" in point:
            attributes["grid_size"] = point.grid_size * self.stride
        order = point.order
        parent, point = point, Point(attributes)
        # Assigned, not passed: the constructor would copy a nested Point.
        point["pooling_inverse"] = cluster
        point["pooling_parent"] = parent
        point = self.act(self.norm(point))
        point.serialization(order=order, shuffle_orders=self.shuffle_orders)
        point.sparsify()
        return point


class GridUnpooling(PointModule):
    """Add projected coarse features to the projected features of their points."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        traceable: bool = False,
    ):
        super().__init__()
        self.traceable = traceable
        self.proj = _projection(in_channels, out_channels)
        self.proj_skip = _projection(skip_channels, out_channels)

    def forward(self, point: Point) -> Point:
        parent, inverse = point.pop("pooling_parent"), point.pooling_inverse
        coarse = point.feat
        parent = self.proj_skip(parent)
        parent.feat = parent.feat + self.proj(point).feat.index_select(0, inverse)
        if self.traceable:
            point.feat = coarse
            parent["unpooling_parent"] = point
        return parent


def _projection(in_channels: int, out_channels: int) -> PointSequential:
    return PointSequential(
        nn.Linear(in_channels, out_channels), nn.LayerNorm(out_channels), nn.GELU()
    )


class Embedding(PointModule):
    """Embed input features; masked points get the mask token."""

    def __init__(self, in_channels: int, embed_channels: int, mask_token: bool = False):
        super().__init__()
        self.stem = PointSequential(
            linear=nn.Linear(in_channels, embed_channels),
            norm=nn.LayerNorm(embed_channels),
            act=nn.GELU(),
        )
        self.mask_token = (
            nn.Parameter(torch.zeros(1, embed_channels)) if mask_token else None
        )

    def forward(self, point: Point) -> Point:
        point = self.stem(point)
        if "mask" in point:
            if self.mask_token is None:
                raise UserError(
                    "PT-v3m2: the batch has a mask but the backbone no token for it: "
                    "set mask_token=True"
                )
            token = self.mask_token.to(point.feat.dtype)
            point.feat = torch.where(point.mask.unsqueeze(-1), token, point.feat)
        return point


@MODELS.register_module("PT-v3m2")
class PointTransformerV3(PointModule):
    """Point Transformer V3 mode 2, encoder or encoder and decoder.

    Takes a batch dict with ``feat`` (N, in_channels), ``coord``, ``offset`` and
    ``grid_coord`` or ``grid_size``; returns a Point. The keywords are Pointcept's.
    """

    def __init__(
        self,
        in_channels: int = 6,
        order: tuple[str, ...] | str = ("z", "z-trans"),
        stride: tuple[int, ...] = (2, 2, 2, 2),
        enc_depths: tuple[int, ...] = (2, 2, 2, 6, 2),
        enc_channels: tuple[int, ...] = (32, 64, 128, 256, 512),
        enc_num_head: tuple[int, ...] = (2, 4, 8, 16, 32),
        enc_patch_size: tuple[int, ...] = (48, 48, 48, 48, 48),
        dec_depths: tuple[int, ...] = (2, 2, 2, 2),
        dec_channels: tuple[int, ...] = (64, 64, 128, 256),
        dec_num_head: tuple[int, ...] = (4, 4, 8, 16),
        dec_patch_size: tuple[int, ...] = (48, 48, 48, 48),
        mlp_ratio: float = 4,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        drop_path: float = 0.3,
        layer_scale: float | None = None,
        pre_norm: bool = True,
        shuffle_orders: bool = True,
        enable_rpe: bool = False,
        enable_flash: bool = True,
        upcast_attention: bool = False,
        upcast_softmax: bool = False,
        traceable: bool = False,
        mask_token: bool = False,
        enc_mode: bool = False,
        freeze_encoder: bool = False,
    ):
        super().__init__()
        self.num_stages = len(enc_depths)
        self.order = [order] if isinstance(order, str) else list(order)
        self.shuffle_orders = shuffle_orders
        self.enc_mode = enc_mode
        per_stage = {
            "enc_channels": (enc_channels, 0),
            "enc_num_head": (enc_num_head, 0),
            "enc_patch_size": (enc_patch_size, 0),
            "stride": (stride, 1),
        }
        if not enc_mode:
            per_stage |= {
                "dec_depths": (dec_depths, 1),
                "dec_channels": (dec_channels, 1),
                "dec_num_head": (dec_num_head, 1),
                "dec_patch_size": (dec_patch_size, 1),
            }
        for name, (values, fewer) in per_stage.items():
            if len(values) != self.num_stages - fewer:
                raise UserError(
                    f"PT-v3m2: {name} has {len(values)} entries, but {self.num_stages} "
                    f"stages (enc_depths) need {self.num_stages - fewer}"
                )
        shared = {
            "mlp_ratio": mlp_ratio,
            "qkv_bias": qkv_bias,
            "qk_scale": qk_scale,
            "attn_drop": attn_drop,
            "proj_drop": proj_drop,
            "layer_scale": layer_scale,
            "pre_norm": pre_norm,
            "enable_rpe": enable_rpe,
            "enable_flash": enable_flash,
            "upcast_attention": upcast_attention,
            "upcast_softmax": upcast_softmax,
        }

        def add_blocks(stage, depth, index, channels, heads, patch, rates):
            for i in range(depth):
                block = Block(
                    channels=channels,
                    num_heads=heads,
                    patch_size=patch,
                    drop_path=rates[i],
                    order_index=i % len(self.order),
                    cpe_indice_key=f"stage{index}",
                    **shared,
                )
                stage.add(block, name=f"block{i}")

        self.embedding = Embedding(in_channels, enc_channels[0], mask_token)
        self.enc = PointSequential()
        rates = torch.linspace(0, drop_path, sum(enc_depths)).tolist()
        for s, depth in enumerate(enc_depths):
            stage = PointSequential()
            if s > 0:
                down = GridPooling(enc_channels[s - 1], enc_channels[s], stride[s - 1])
                stage.add(down, name="down")
            first = sum(enc_depths[:s])
            add_blocks(
                stage,
                depth,
                s,
                enc_channels[s],
                enc_num_head[s],
                enc_patch_size[s],
                rates[first : first + depth],
            )
            if len(stage):
                self.enc.add(stage, name=f"enc{s}")

        if not enc_mode:
            self.dec = PointSequential()
            rates = torch.linspace(0, drop_path, sum(dec_depths)).tolist()
            channels = [*dec_channels, enc_channels[-1]]
            for s in reversed(range(self.num_stages - 1)):
                stage = PointSequential()
                up = GridUnpooling(
                    channels[s + 1], enc_channels[s], channels[s], traceable
                )
                stage.add(up, name="up")
                first = sum(dec_depths[:s])
                add_blocks(
                    stage,
                    dec_depths[s],
                    s,
                    channels[s],
                    dec_num_head[s],
                    dec_patch_size[s],
                    rates[first : first + dec_depths[s]][::-1],
                )
                self.dec.add(stage, name=f"dec{s}")
        if freeze_encoder:
            self.embedding.requires_grad_(False)
            self.enc.requires_grad_(False)
        self.apply(_init_weights)

    def forward(self, data_dict: dict) -> Point:
        point = Point(data_dict)
        channels = self.embedding.stem.linear.in_features
        if point.feat.shape[1] != channels:
            raise UserError(
                f"PT-v3m2: the batch's feat has {point.feat.shape[1]} channels, the "
                f"backbone was built for {channels}: set in_channels or the feat_keys "
                "of Collect"
            )
        point = self.embedding(point)
        point.serialization(order=self.order, shuffle_orders=self.shuffle_orders)
        point.sparsify()
        point = self.enc(point)
        return point if self.enc_mode else self.dec(point)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, SubMConv3d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
