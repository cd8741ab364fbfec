"""Point Transformer V3, mode 2: serialized attention over a pooling hierarchy.

Configuration keys, state-dict names and numbers are those of Pointcept's
``PT-v3m2``, so that checkpoints cross both ways.
Source: Wu et al., Point Transformer V3 (CVPR 2024) and Sonata (CVPR 2025).
"""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.ops.segments import segment_mean

from .logger import get_root_logger
from .modules import PointModule, PointSequential, SubMConv3d
from .point import Point, offset2bincount
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


class RPE(nn.Module):
    """Bias of attention from the relative grid position of two points."""

    def __init__(self, patch_size: int, num_heads: int):
        super().__init__()
        self.bound = int((4 * patch_size) ** (1 / 3) * 2)
        self.rpe_num = 2 * self.bound + 1
        self.rpe_table = nn.Parameter(torch.zeros(3 * self.rpe_num, num_heads))
        nn.init.trunc_normal_(self.rpe_table, std=0.02)

    def forward(self, relative: Tensor) -> Tensor:
        """Map (P, K, K, 3) relative cells to (P, H, K, K) biases."""
        axis = torch.arange(3, device=relative.device) * self.rpe_num
        index = relative.clamp(-self.bound, self.bound).long() + self.bound + axis
        return self.rpe_table[index].sum(3).permute(0, 3, 1, 2)


def patch_padding(bincount: list[int], patch_size: int) -> tuple[Tensor, Tensor]:
    """Lay clouds out in patches of equal size.

    A cloud longer than a patch is filled up to whole patches by repeating points of
    its second last patch; a shorter one is left as it is.

    Args:
        bincount: points of each cloud.
        patch_size: points of a patch.

    Returns:
        ``pad`` (N',) the point of every slot, ``unpad`` (N,) the slot of every point.
    """
    pads, unpads = [], []
    first_point = first_slot = 0
    for count in bincount:
        index = torch.arange(count)
        unpads.append(index + first_slot)
        slots = index
        remainder = count % patch_size
        if count > patch_size and remainder:
            missing = patch_size - remainder
            fill_from = count - patch_size
            slots = torch.cat([index, torch.arange(fill_from, fill_from + missing)])
        pads.append(slots + first_point)
        first_point += count
        first_slot += len(slots)
    return torch.cat(pads), torch.cat(unpads)


class SerializedAttention(PointModule):
    """Self-attention within patches of consecutive points along a curve.

    With ``enable_flash`` a cloud shorter than ``patch_size`` is one shorter patch;
    without, the patch shrinks to the smallest cloud of the batch (Pointcept's rule).
    Where flash-attn cannot be imported, or on CPU, ``scaled_dot_product_attention``
    computes the same thing.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        patch_size: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        order_index: int = 0,
        enable_rpe: bool = False,
        enable_flash: bool = True,
        upcast_attention: bool = True,
        upcast_softmax: bool = True,
    ):
        super().__init__()
        if channels % num_heads:
            raise UserError(
                f"PT-v3m2: {channels} channels do not divide into {num_heads} heads"
            )
        if enable_flash and (enable_rpe or upcast_attention or upcast_softmax):
            raise UserError(
                "PT-v3m2: enable_flash=True needs enable_rpe, upcast_attention and "
                "upcast_softmax to be False"
            )
        self.channels = channels
        self.num_heads = num_heads
        self.scale = qk_scale or (channels // num_heads) ** -0.5
        self.patch_size = patch_size
        self.order_index = order_index
        self.enable_flash = enable_flash
        self.upcast = upcast_attention or upcast_softmax
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(channels, channels * 3, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(proj_drop)
        self.rpe = RPE(patch_size, num_heads) if enable_rpe else None

    @torch.no_grad()
    def _layout(self, point: Point) -> tuple[Tensor, Tensor, list[int], int]:
        """Return pad, unpad, patch lengths and patch size, cached on the Point."""
        if "patch_layout" not in point:
            bincount = offset2bincount(point.offset).tolist()
            size = self.patch_size
            if not self.enable_flash:
                size = min(size, *bincount)
            pad, unpad = patch_padding(bincount, size)
            short = [n for n in bincount if n < size] if self.enable_flash else []
            lengths = []
            if short:
                for count in bincount:
                    lengths += [size] * -(-count // size) if count >= size else [count]
            device = point.offset.device
            layout = (pad.to(device), unpad.to(device), lengths, size)
            point["patch_layout"] = layout
        return point["patch_layout"]

    def forward(self, point: Point) -> Point:
        pad, unpad, lengths, size = self._layout(point)
        order = point.serialized_order[self.order_index][pad]
        inverse = unpad[point.serialized_inverse[self.order_index]]
        qkv = self.qkv(point.feat)[order]
        if lengths:
            feat = self._attend_ragged(qkv, lengths, size)
        else:
            bias = self._position_bias(point, order, size)
            feat = self._attend(qkv.view(-1, size, 3 * self.channels), bias)
        feat = feat.reshape(-1, self.channels)[inverse]
        point.feat = self.proj_drop(self.proj(feat))
        return point

    def _attend(self, qkv: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend within (P, K, 3C) patches; return (P, K, C)."""
        heads = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        if self.upcast:
            query, key = query.float(), key.float()
            value = value.float()
        if bias is not None:
            bias = bias.to(query.dtype)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            dropout_p=self.attn_drop if self.training else 0.0,
            scale=self.scale,
        )
        return attended.transpose(1, 2).flatten(2).to(qkv.dtype)

    def _attend_ragged(self, qkv: Tensor, lengths: list[int], size: int) -> Tensor:
        """Attend within patches of which some are shorter than ``size``."""
        parts = qkv.split(lengths)
        full = [part for part in parts if len(part) == size]
        attended = iter(self._attend(torch.stack(full))) if full else iter(())
        return torch.cat(
            [
                next(attended) if len(part) == size else self._attend(part[None])[0]
                for part in parts
            ]
        )

    def _position_bias(self, point, order, size):
        if self.rpe is None:
            return None
        key = f"rel_pos_{self.order_index}"
        if key not in point:
            grid = point.grid_coord[order].view(-1, size, 3)
            point[key] = grid.unsqueeze(2) - grid.unsqueeze(1)
        return self.rpe(point[key])


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
    features can be cast up again.
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
        projected = self.proj(point.feat)
        index = cluster[:, None].expand_as(projected)
        pooled = projected.new_zeros(num, projected.shape[1])
        pooled = pooled.scatter_reduce(0, index, projected, "amax", include_self=False)
        low = (1 << 16) - 1
        attributes: dict[str, Any] = {
            "feat": pooled,
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
            if name in point:
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
        parent.feat = parent.feat + self.proj(point).feat[inverse]
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
        if enable_flash:
            get_root_logger().info(
                "PT-v3m2: attention by scaled_dot_product_attention (flash patches)"
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
        point = self.embedding(Point(data_dict))
        point.serialization(order=self.order, shuffle_orders=self.shuffle_orders)
        point.sparsify()
        point = self.enc(point)
        return point if self.enc_mode else self.dec(point)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, SubMConv3d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
