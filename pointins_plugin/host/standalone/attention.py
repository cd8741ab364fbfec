"""Serialized attention: self-attention within patches along a space-filling curve.

Source: Wu et al., Point Transformer V3 (CVPR 2024), section 4.2; parameter names,
padding and numbers are those of Pointcept's ``PT-v3m2``.
"""

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError

from .logger import get_root_logger
from .modules import PointModule
from .point import Point, offset2bincount


@cache
def _flash_attn() -> Callable | None:
    """Import flash-attn's kernel for patches of various lengths; None without it."""
    try:
        return importlib.import_module("flash_attn").flash_attn_varlen_qkvpacked_func
    except Exception as error:  # a build for another CUDA fails in its own ways
        if not isinstance(error, ModuleNotFoundError):
            get_root_logger().warning(f"flash_attn is installed but broken: {error}")
        return None


def flash_for(device: torch.device) -> Callable | None:
    """Return flash-attn's function where it runs: on CUDA, if it is installed."""
    return _flash_attn() if device.type == "cuda" else None


def _fall_back(asked: bool) -> str:
    path = "PyTorch's scaled_dot_product_attention"
    if not asked:
        return path
    found = importlib.util.find_spec("flash_attn")
    reason = "runs on CUDA only" if found else "is not installed"
    return f"{path} (enable_flash=True, but flash-attn {reason})"


_AS_IS = nullcontext()


@cache
def _say(path: str) -> None:
    get_root_logger().info(f"PT-v3m2: attention by {path}")


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


@dataclass(frozen=True)
class Patches:
    """Clouds laid out in patches, along a curve.

    Attributes:
        pad: (N',) point of every slot.
        unpad: (N,) slot of every point.
        size: slots of a full patch.
        num_full: full patches; they come first.
        short: (S, L) bool, slots in use of the S shorter patches; None without any.
    """

    pad: Tensor
    unpad: Tensor
    size: int
    num_full: int
    short: Tensor | None

    def to(self, device: torch.device) -> "Patches":
        """Return the layout on a device."""
        return replace(
            self,
            pad=self.pad.to(device),
            unpad=self.unpad.to(device),
            short=None if self.short is None else self.short.to(device),
        )

    @cached_property
    def packed(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same without unused slots: pad, unpad and where patches begin and end."""
        full = torch.full_like(self.unpad[:1], self.size).expand(self.num_full)
        if self.short is None:
            pad, unpad, sizes = self.pad, self.unpad, full
        else:
            used = torch.ones_like(self.pad, dtype=torch.bool)
            used[self.num_full * self.size :] = self.short.flatten()
            pad, unpad = self.pad[used], (used.cumsum(0) - 1)[self.unpad]
            sizes = torch.cat([full, self.short.sum(dim=1)])
        bounds = F.pad(sizes.cumsum(0), (1, 0))
        return pad, unpad, bounds.int()


@torch.no_grad()
def lay_out_patches(bincount: list[int], size: int) -> Patches:
    """Lay clouds out in patches.

    A cloud longer than a patch is filled up to whole patches by repeating points of
    its second last patch (Pointcept's rule); a cloud shorter than a patch is one
    shorter patch.

    Args:
        bincount: points of each cloud.
        size: points of a patch.
    """
    full_pad, short_pad = [], []
    full_unpad: dict[int, Tensor] = {}
    short_unpad: dict[int, Tensor] = {}
    short = torch.tensor([n for n in bincount if 0 < n < size], dtype=torch.long)
    longest = int(short.max()) if len(short) else 0
    first = num_full = num_short = 0
    for cloud, count in enumerate(bincount):
        index = torch.arange(count)
        if count >= size:
            missing = -count % size
            fill = torch.arange(count - size, count - size + missing)
            full_pad += [index + first, fill + first]
            full_unpad[cloud] = index + num_full * size
            num_full += (count + missing) // size
        elif count:
            slots = torch.arange(longest).clamp(max=count - 1)
            short_pad.append(slots + first)
            short_unpad[cloud] = index + num_short * longest
            num_short += 1
        first += count
    unpad = [
        full_unpad[cloud]
        if cloud in full_unpad
        else short_unpad[cloud] + num_full * size
        for cloud, count in enumerate(bincount)
        if count
    ]
    return Patches(
        pad=torch.cat(full_pad + short_pad),
        unpad=torch.cat(unpad),
        size=size,
        num_full=num_full,
        short=torch.arange(longest) < short[:, None] if len(short) else None,
    )


class SerializedAttention(PointModule):
    """Self-attention within patches of consecutive points along a curve.

    With ``enable_flash`` a cloud shorter than ``patch_size`` is one shorter patch;
    without, the patch shrinks to the smallest cloud of the batch (Pointcept's rule).
    On CUDA ``enable_flash`` is computed by flash-attn where that is installed, in
    bfloat16 as in Pointcept; everything else by ``scaled_dot_product_attention`` in the
    dtype of the features, or float32 with either upcast option, inside autocast too.
    The log tells which.
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

    def _patches(self, point: Point) -> Patches:
        """Return the layout of a Point's patches, shared by the blocks of a stage."""
        key = f"patches_{self.patch_size}_{self.enable_flash}"
        if key not in point:
            bincount = offset2bincount(point.offset).tolist()
            size = self.patch_size
            if not self.enable_flash:
                size = min(size, *(count for count in bincount if count))
            first = f"patches_{self.enable_flash}"
            layout = None
            if first in point:
                layout = self._as_the_first(point[first], bincount, size)
            if layout is None:
                layout = lay_out_patches(bincount, size).to(point.offset.device)
            point.setdefault(first, layout)
            point[key] = layout
        return point[key]

    def _as_the_first(self, first: Patches, bincount, size: int) -> Patches | None:
        """Adopt the layout of a stage's first block, which a decoder may not share.

        Pointcept lays a stage out once. With ``enable_flash`` another patch size is
        therefore without effect; without, the layout is cut into patches of that size.
        None where they do not fit the clouds, on which Pointcept stops or mixes clouds.
        """
        if self.enable_flash:
            return first
        if any(-(-count // first.size) * first.size % size for count in bincount):
            return None
        return replace(first, size=size, num_full=len(first.pad) // size)

    def forward(self, point: Point) -> Point:
        patches = self._patches(point)
        flash = flash_for(point.feat.device) if self.enable_flash else None
        if flash is not None:
            _say("flash-attn, in bfloat16")
            pad, unpad, bounds = patches.packed
        else:
            _say(_fall_back(self.enable_flash))
            pad, unpad = patches.pad, patches.unpad
        order = point.serialized_order[self.order_index][pad]
        inverse = unpad[point.serialized_inverse[self.order_index]]
        # index_select: its gradient adds rows, indexing's would sort them first. At
        # most two slots show one point, so that the sum has one order.
        qkv = self.qkv(point.feat).index_select(0, order)
        if flash is not None:
            feat = self._attend_packed(flash, qkv, bounds, patches.size)
        else:
            feat = self._attend_patches(qkv, patches, point, order)
        point.feat = self.proj_drop(self.proj(feat.index_select(0, inverse)))
        return point

    def _attend_packed(
        self, flash: Callable, qkv: Tensor, bounds: Tensor, longest: int
    ) -> Tensor:
        """Attend within patches of (N', 3C) slots that begin at ``bounds``."""
        heads = qkv.to(torch.bfloat16).unflatten(1, (3, self.num_heads, -1))
        attended = flash(
            heads,
            bounds,
            max_seqlen=longest,
            dropout_p=self.attn_drop if self.training else 0.0,
            softmax_scale=self.scale,
        )
        return attended.flatten(1).to(qkv.dtype)

    def _attend_patches(self, qkv: Tensor, patches: Patches, point, order) -> Tensor:
        """Attend within full and shorter patches of (N', 3C) slots."""
        num_full = patches.num_full * patches.size
        parts = []
        if num_full:
            full = qkv[:num_full].unflatten(0, (-1, patches.size))
            bias = self._position_bias(point, order, patches)
            parts.append(self._attend(full, bias).flatten(0, 1))
        if patches.short is not None:
            short = qkv[num_full:].unflatten(0, patches.short.shape)
            in_use = patches.short[:, None, None, :]
            parts.append(self._attend(short, in_use).flatten(0, 1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend(self, qkv: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within (P, K, 3C) patches; return (P, K, C).

        Args:
            qkv: queries, keys and values of every slot.
            mask: bias to add to the attention, or bool keys in use; it broadcasts to
                (P, H, K, K).
        """
        heads = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.upcast and heads.dtype != torch.float64:
            heads = heads.float()
        if mask is not None and mask.is_floating_point():
            mask = mask.to(heads.dtype)
        # autocast would round the queries and keys again
        with torch.autocast(qkv.device.type, enabled=False) if self.upcast else _AS_IS:
            attended = F.scaled_dot_product_attention(
                *heads.unbind(0),
                attn_mask=mask,
                dropout_p=self.attn_drop if self.training else 0.0,
                scale=self.scale,
            )
        return attended.transpose(1, 2).flatten(2).to(qkv.dtype)

    def _position_bias(self, point: Point, order: Tensor, patches: Patches):
        if self.rpe is None:
            return None
        key = f"rel_pos_{self.order_index}_{patches.size}"
        if key not in point:
            grid = point.grid_coord[order].view(-1, patches.size, 3)
            point[key] = grid.unsqueeze(2) - grid.unsqueeze(1)
        return self.rpe(point[key])
