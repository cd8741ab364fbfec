"""Sparse convolution on voxels: neighbour maps and gather-GEMM-sum in PyTorch.

A neighbour map lists, kernel cell by kernel cell, the (input, output) pairs of
voxels it connects; it is built once per resolution and shared by every layer of it,
forward and backward. A convolution fills its outputs block by block in space: for each
kernel cell it gathers the rows that the block reads and multiplies them, while they
are in the cache, and then every output sums its products. That sum has one order and
no atomics, so that threads cannot race.
"""

import copy
import functools
import itertools
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointins_plugin.errors import UserError

# Bits of an axis in a packed key. Cells keep clear of the field's border, so that a
# kernel's step never carries into the next axis; 12 bits are left for the cloud.
_FIELD = 17
_MARGIN = 1 << 8
_LOW = (1 << _FIELD) - 1
MAX_CELL = (1 << _FIELD) - 2 * _MARGIN
MAX_CLOUDS = 1 << (63 - 3 * _FIELD)

# A block has a power of two of outputs, at least 2^11, and some 2^14 pairs: what it
# reads and its products stay in the cache, and matrix products have enough rows. A GPU
# wants few large kernels; the products of 2^20 pairs of 96 channels take 400 MB.
_LEAST_BITS = 11
_PAIR_BITS = 14
_CUDA_PAIR_BITS = 20

Size = int | Sequence[int]


@dataclass(frozen=True)
class Block:
    """Outputs that are computed together.

    Attributes:
        first, last: the outputs' range of ranks.
        pieces: (kernel cell, ranks of inputs, ranks of outputs) of the pairs.
        rows: (R,) pairs of the block, output by output.
        start: (last - first,) where each output's rows begin.
    """

    first: int
    last: int
    pieces: list[tuple[int, Tensor, Tensor]]
    rows: Tensor
    start: Tensor


class NeighbourMap:
    """Pairs of input and output voxels connected by a kernel.

    Voxels go by their rank, their place along the space they fill: near ones share
    inputs and cache lines.

    Args:
        sources: for each kernel cell, in the kernel's memory order, the input voxel of
            every pair, by rank.
        targets: likewise the output voxels, ascending in each cell.
        num_inputs, num_outputs: voxels on either side.
        input_order, output_order: voxel of every rank; None where they are the same.
        identity: the kernel cell that maps every voxel to itself, which is left out
            of the pairs; None where there is none.
        mirrored: every pair is there in both directions, in opposite kernel cells.
        many_inputs: an output may read several inputs in one kernel cell.
        many_outputs: an input may be read by several outputs in one kernel cell.

    Attributes:
        blocks: the pairs, cut into blocks of outputs.
        largest, longest: pairs of the largest block and of the longest piece.
        one_each: every output has exactly one pair, and nothing to sum.
    """

    def __init__(
        self,
        sources: list[Tensor],
        targets: list[Tensor],
        num_inputs: int,
        num_outputs: int,
        input_order: Tensor | None = None,
        output_order: Tensor | None = None,
        identity: int | None = None,
        mirrored: bool = False,
        many_inputs: bool = False,
        many_outputs: bool = False,
    ):
        self.sources, self.targets = sources, targets
        self.num_inputs, self.num_outputs = num_inputs, num_outputs
        self.input_order, self.output_order = input_order, output_order
        self.identity, self.mirrored = identity, mirrored
        self.many_inputs, self.many_outputs = many_inputs, many_outputs
        self._origin: weakref.ref[NeighbourMap] | None = None
        every = torch.cat(targets)
        pairs_each = max(1, len(every) // max(1, num_outputs))
        bits = _CUDA_PAIR_BITS if every.is_cuda else _PAIR_BITS
        bits = max(_LEAST_BITS, bits + 1 - pairs_each.bit_length())
        bounds = _bounds(targets, num_outputs, 1 << bits)
        count = torch.bincount(every, minlength=num_outputs)
        self.one_each = len(every) == num_outputs and bool((count == 1).all())
        start = count.cumsum(0) - count
        rows = _rows(targets, bounds, start, bits, many_inputs)
        self.blocks = self._cut(bounds, rows, start, 1 << bits)
        lengths = [[len(piece[1]) for piece in block.pieces] for block in self.blocks]
        self.largest = max(map(sum, lengths), default=0)
        self.longest = max(itertools.chain(*lengths), default=0)

    def _cut(self, bounds: Tensor, rows: Tensor, start: Tensor, size: int):
        """Return the blocks, from where each cell's pairs of a block begin and end."""
        ends = bounds.sum(dim=0).tolist()
        blocks = []
        for i, limits in enumerate(itertools.pairwise(bounds.t().tolist())):
            first, last = i * size, min((i + 1) * size, self.num_outputs)
            pieces = [
                (cell, self.sources[cell][low:high], self.targets[cell][low:high])
                for cell, (low, high) in enumerate(zip(*limits, strict=True))
                if low < high
            ]
            local = (start[first:last] - ends[i]).int()
            blocks.append(
                Block(first, last, pieces, rows[ends[i] : ends[i + 1]], local)
            )
        return blocks

    @cached_property
    def output_rank(self) -> Tensor | None:
        """Rank of every output voxel."""
        order = self.output_order
        if order is None:
            return None
        ranks = torch.arange(len(order), device=order.device)
        return torch.empty_like(order).scatter_(0, order, ranks)

    @property
    def reversed(self) -> "NeighbourMap":
        """The same pairs from outputs to inputs: gradients, inverse convolution."""
        origin = self._origin and self._origin()
        return self._back if origin is None else origin

    @cached_property
    def _back(self) -> "NeighbourMap":
        back = self._relabelled() if self.mirrored else self._swapped()
        # Weak: a cycle would keep the maps of past steps until Python looks for it.
        back._origin = weakref.ref(self)
        return back

    def _relabelled(self) -> "NeighbourMap":
        """From the other side, the pairs of a cell are those of its mirror image."""
        back = copy.copy(self)
        back.sources, back.targets = self.sources[::-1], self.targets[::-1]
        last = len(self.sources) - 1
        back.blocks = [
            replace(
                block, pieces=[(last - cell, *pair) for cell, *pair in block.pieces]
            )
            for block in self.blocks
        ]
        return back

    def _swapped(self) -> "NeighbourMap":
        sources, targets = [], []
        for source, target in zip(self.sources, self.targets, strict=True):
            ascending, order = torch.sort(source, stable=True)
            targets.append(ascending)
            sources.append(target[order])
        return NeighbourMap(
            sources,
            targets,
            num_inputs=self.num_outputs,
            num_outputs=self.num_inputs,
            input_order=self.output_order,
            output_order=self.input_order,
            identity=self.identity,
            many_inputs=self.many_outputs,
            many_outputs=self.many_inputs,
        )


def _bounds(targets: list[Tensor], num_outputs: int, size: int) -> Tensor:
    """Return (cells, blocks + 1): where the pairs of a cell enter each block."""
    edges = torch.arange(0, num_outputs + size, size, device=targets[0].device)
    return torch.stack([torch.searchsorted(target, edges) for target in targets])


def _rows(
    targets, bounds: Tensor, start: Tensor, bits: int, many_inputs: bool
) -> Tensor:
    """List the pairs output by output, each output's from its ``start`` on.

    Returns (P,) int32: a pair's place among those of its block, which lie cell by cell.
    """
    sizes = [len(target) for target in targets]
    rows = torch.empty(sum(sizes), dtype=torch.int32, device=start.device)
    filled = start.clone()
    inside = bounds.diff(dim=1)
    # from a place in its cell to a place in the block
    shift = inside.cumsum(0) - inside - bounds[:, :-1]
    counter = torch.arange(max(sizes), device=start.device)
    for target, shift_of_block, size in zip(targets, shift, sizes, strict=True):
        if size:
            here = counter[:size]
            slot = filled.index_select(0, target)
            if many_inputs:
                slot += here - torch.searchsorted(target, target)
            place = here + shift_of_block.index_select(0, target >> bits)
            rows.scatter_(0, slot, place.int())
            if many_inputs:
                filled.index_add_(0, target, torch.ones_like(target))
            else:
                filled.scatter_(0, target, slot + 1)
    return rows


def triple(size: Size) -> tuple[int, int, int]:
    """Return the edges along x, y, z from one number or three."""
    edges = (size,) * 3 if isinstance(size, int) else tuple(size)
    if len(edges) != 3:
        raise ValueError(f"a size has one number or three, found {size!r}")
    return edges


def pack_voxels(grid_coord: Tensor, batch: Tensor) -> Tensor:
    """Pack cloud and cell into one sortable key (N,), axis x above y above z.

    Raises:
        UserError: a cell is negative or beyond ``MAX_CELL``, or there are more than
            ``MAX_CLOUDS`` clouds.
    """
    _check_voxels(grid_coord, batch)
    return _pack(grid_coord.long().unbind(dim=1), batch)


def _check_voxels(grid_coord: Tensor, batch: Tensor) -> None:
    if not len(grid_coord):
        return
    low, high = torch.aminmax(grid_coord)
    low, high, clouds = torch.stack([low, high, batch.max().to(low)]).tolist()
    if low < 0 or high >= MAX_CELL or clouds >= MAX_CLOUDS:
        raise UserError(
            f"sparse convolution: cells run from {low} to {high} in {clouds + 1} "
            f"clouds, supported are 0 to {MAX_CELL - 1} in {MAX_CLOUDS}: use a larger "
            "grid_size or crop the cloud"
        )


def _pack(axes: Sequence[Tensor], batch: Tensor) -> Tensor:
    key = batch.long()
    for axis in axes:
        key = (key << _FIELD) + axis
    return key + ((_MARGIN << _FIELD | _MARGIN) << _FIELD | _MARGIN)


@torch.no_grad()
def submanifold_map(
    grid_coord: Tensor, batch: Tensor, kernel_size: Size = 3
) -> NeighbourMap:
    """Build the map of a submanifold convolution: outputs at the input voxels only.

    Args:
        grid_coord: (N, 3) integer cells in [0, ``MAX_CELL``).
        batch: (N,) cloud of every voxel.
        kernel_size: edge of the kernel, or three along x, y, z. Cell i of an edge k
            reads the voxel at i - k // 2: an even kernel reaches one further down.

    Points that share a cell are read by their neighbours through the first of them
    (lowest index), and each reads itself through the kernel's centre: the result does
    not depend on the order in which a hash table was filled.
    """
    edges = triple(kernel_size)
    packed = pack_voxels(grid_coord, batch)
    keys, order = torch.sort(packed, stable=True)
    in_order = torch.equal(keys, packed)
    new = torch.ones_like(keys, dtype=torch.bool)
    torch.ne(keys[1:], keys[:-1], out=new[1:])
    first = new.nonzero().squeeze(1)
    shared = len(first) < len(keys)
    sources, targets = _cell_pairs(keys[first] if shared else keys, edges)
    if shared:
        # A pair of cells stands for one pair to every point of the second.
        count = torch.diff(first, append=first.new_tensor([len(order)]))
        for cell, target in enumerate(targets):
            repeats = count[target]
            last = repeats.cumsum(0)
            within = torch.arange(int(repeats.sum()), device=keys.device)
            begin = first[target] - last + repeats
            targets[cell] = begin.repeat_interleave(repeats) + within
            sources[cell] = first[sources[cell]].repeat_interleave(repeats)
    order = None if in_order else order
    return NeighbourMap(
        sources=sources,
        targets=targets,
        num_inputs=len(grid_coord),
        num_outputs=len(grid_coord),
        input_order=order,
        output_order=order,
        identity=_flat([edge // 2 for edge in edges], edges),
        mirrored=not shared and all(edge % 2 for edge in edges),
        many_outputs=shared,
    )


def _flat(cell: Sequence[int], edges: Sequence[int]) -> int:
    return (cell[0] * edges[1] + cell[1]) * edges[2] + cell[2]


def _cell_pairs(
    keys: Tensor, edges: tuple[int, int, int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return occupied (source, target) cells of every kernel cell, sorted by target.

    Of two opposite steps one is looked up and the other is its mirror image. Along z
    occupied cells follow each other in the sorted keys, so a column costs one search.
    The centre is left empty.
    """
    none = keys.new_empty(0)
    sources, targets = ([none] * math.prod(edges) for _ in range(2))
    low = [-(edge // 2) for edge in edges]
    high = [edge - 1 - edge // 2 for edge in edges]
    # No key reaches the sentinel, which spares a bound on every look-up.
    padded = torch.cat([keys, keys.new_tensor([torch.iinfo(torch.int64).max])])

    def record(step, source, target):
        index = [here - least for here, least in zip(step, low, strict=True)]
        inside = zip(index, edges, strict=True)
        if all(0 <= here < edge for here, edge in inside):
            sources[_flat(index, edges)] = source
            targets[_flat(index, edges)] = target

    # Half of the steps; an even edge reaches further down than up.
    reach = [max(-least, most) for least, most in zip(low, high, strict=True)]
    for dx, dy in itertools.product(
        range(reach[0] + 1), range(-reach[1], reach[1] + 1)
    ):
        if dx == 0 and dy < 0:
            continue
        first_dz = -reach[2] if dx or dy else 1
        shift = (dx << 2 * _FIELD) + (dy << _FIELD) + first_dz
        wanted = keys + shift
        place = torch.searchsorted(keys, wanted)
        for dz in range(first_dz, reach[2] + 1):
            found = padded.index_select(0, place) == wanted
            target = found.nonzero().squeeze(1)
            source = place.index_select(0, target)
            record((dx, dy, dz), source, target)
            record((-dx, -dy, -dz), target, source)
            place += found
            wanted += 1
    return sources, targets


@torch.no_grad()
def strided_map(
    grid_coord: Tensor,
    batch: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    spatial_shape: Sequence[int] | None = None,
) -> tuple[NeighbourMap, Tensor, Tensor]:
    """Build the map of a strided convolution, with an output wherever an input is read.

    Args:
        grid_coord: (N, 3) integer cells in [0, ``MAX_CELL``).
        batch: (N,) cloud of every voxel.
        kernel_size, stride, padding: as in ``torch.nn.Conv3d``, one number or three;
            the stride is the kernel's size by default.
        spatial_shape: extent of the input along x, y, z, which bounds the outputs;
            None is without end.

    Returns:
        The map, the output cells (M, 3) sorted by cloud, x, y, z, and their clouds
        (M,). Its ``reversed`` map is that of the inverse convolution.
    """
    edges, padding = triple(kernel_size), triple(padding)
    stride = edges if stride is None else triple(stride)
    _check_voxels(grid_coord, batch)
    axes = [
        axis.long() + pad
        for axis, pad in zip(grid_coord.unbind(dim=1), padding, strict=True)
    ]
    last = [_floor_div(axis, pace) for axis, pace in zip(axes, stride, strict=True)]
    limits = (None,) * 3
    if spatial_shape is not None:
        limits = conv_shape(spatial_shape, edges, stride, padding)
    sources, cells, outputs = [], [], []
    reads = [math.ceil(edge / pace) for edge, pace in zip(edges, stride, strict=True)]
    for back in itertools.product(*map(range, reads)):
        flat, output, valid = 0, [], []
        for i in range(3):
            place = last[i] - back[i]
            cell = axes[i] - place * stride[i]
            if back[i]:
                valid.append(place >= 0)
            if (back[i] + 1) * stride[i] > edges[i]:
                valid.append(cell < edges[i])
            if limits[i] is not None:
                valid.append(place < limits[i])
            flat = flat * edges[i] + cell
            output.append(place)
        parts = [flat, _pack(output, batch)]
        source = torch.arange(len(flat), device=flat.device)
        if valid:
            valid = functools.reduce(torch.logical_and, valid)
            if not valid.all():
                source = valid.nonzero().squeeze(1)
                parts = [part.index_select(0, source) for part in parts]
        sources.append(source)
        cells.append(parts[0])
        outputs.append(parts[1])
    source, cell, output = (_joined(part) for part in (sources, cells, outputs))
    keys, target = torch.unique(output, return_inverse=True)
    # by kernel cell, then target; points of one cell keep their order
    place, order = torch.sort(cell * max(1, len(keys)) + target, stable=True)
    sizes = torch.bincount(cell, minlength=math.prod(edges)).tolist()
    pairs = NeighbourMap(
        sources=list(source[order].split(sizes)),
        targets=list(target[order].split(sizes)),
        num_inputs=len(grid_coord),
        num_outputs=len(keys),
        many_inputs=bool((place[1:] == place[:-1]).any()),
    )
    axes = [keys >> 2 * _FIELD & _LOW, keys >> _FIELD & _LOW, keys & _LOW]
    return pairs, torch.stack(axes, dim=1) - _MARGIN, keys >> 3 * _FIELD


def _floor_div(value: Tensor, by: int) -> Tensor:
    if by & (by - 1) == 0:
        return value >> by.bit_length() - 1  # several times as fast
    return torch.div(value, by, rounding_mode="floor")


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def conv_shape(
    spatial_shape: Sequence[int], kernel_size: Size, stride: Size, padding: Size = 0
) -> list[int]:
    """Return the extent of a strided convolution's output along x, y, z."""
    sizes = zip(
        spatial_shape, triple(kernel_size), triple(stride), triple(padding), strict=True
    )
    return [(extent + 2 * pad - edge) // pace + 1 for extent, edge, pace, pad in sizes]


class _SparseConv(torch.autograd.Function):
    """``out[t] = sum over pairs (s, t, k) of weight[:, k] @ feature[s]``."""

    @staticmethod
    def forward(ctx, feature, weight, pairs):
        ctx.save_for_backward(feature, weight)
        ctx.pairs = pairs
        return _gather_gemm(feature, weight.permute(1, 2, 0), pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        feature, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_feature, to_weight = None, None
        if ctx.needs_input_grad[1]:
            to_weight = _WeightGradient(weight)
            if ctx.pairs.identity is not None:
                to_weight.add(ctx.pairs.identity, gradient, feature)
        if ctx.needs_input_grad[0]:
            # One walk for both: the gathered gradients serve twice.
            back = ctx.pairs.reversed
            gather = _Gather(_ranked(feature, back.output_order), back.longest)
            visit = None
            if to_weight is not None:

                def visit(cell, rows, target):
                    to_weight.add(cell, rows, gather(target))

            matrices = weight.transpose(0, 1)
            to_feature = _gather_gemm(gradient, matrices, back, visit)
        elif to_weight is not None:
            ends = (feature, ctx.pairs.input_order), (gradient, ctx.pairs.output_order)
            gathers = [_Gather(_ranked(*end), ctx.pairs.longest) for end in ends]
            for block in ctx.pairs.blocks:
                for cell, *pair in block.pieces:
                    rows = [pick(end) for pick, end in zip(gathers, pair, strict=True)]
                    to_weight.add(cell, rows[1], rows[0])
        if to_weight is not None:
            to_weight = to_weight.total.to(weight.dtype)
        return to_feature, to_weight, None


def _gather_gemm(feature, matrices, pairs, visit=None) -> Tensor:
    """Multiply gathered rows by their kernel cell's matrix and sum them per output.

    Args:
        feature: (N_in, C_in).
        matrices: (cells, C_in, C_out).
        pairs: the map.
        visit: called with kernel cell, gathered rows and the ranks of their outputs.
    """
    feature = _ranked(feature, pairs.input_order)
    gather = _Gather(feature, pairs.longest)
    matrices = matrices.unbind(0)
    channels = matrices[0].shape[1]
    buffer = feature.new_empty(pairs.largest, channels)
    output = feature.new_empty(pairs.num_outputs, channels)
    for block in pairs.blocks:
        filled = 0
        for cell, source, target in block.pieces:
            rows = gather(source)
            product = buffer[filled : filled + len(source)]
            torch.mm(rows, matrices[cell], out=product)
            filled += len(source)
            if visit is not None:
                visit(cell, rows, target)
        products, total = buffer[:filled], output[block.first : block.last]
        if pairs.one_each:
            torch.index_select(products, 0, block.rows, out=total)
        elif filled:
            total.copy_(F.embedding_bag(block.rows, products, block.start, mode="sum"))
        else:
            total.zero_()
    if pairs.identity is not None:
        output.addmm_(feature, matrices[pairs.identity])
    return _ranked(output, pairs.output_rank)


def _ranked(feature: Tensor, order: Tensor | None) -> Tensor:
    """Reorder rows: a pass here saves cache misses in every kernel cell."""
    return feature.contiguous() if order is None else feature.index_select(0, order)


class _Gather:
    """Pick rows of a matrix into one buffer: fresh memory would cost page faults."""

    def __init__(self, feature: Tensor, longest: int):
        self.feature = feature
        self.buffer = feature.new_empty(longest, feature.shape[1])

    def __call__(self, index: Tensor) -> Tensor:
        rows = self.buffer[: len(index)]
        return torch.index_select(self.feature, 0, index, out=rows)


class _WeightGradient:
    """Sum of products of output gradients and features, in at least float32."""

    def __init__(self, weight: Tensor):
        half = weight.dtype in (torch.float16, torch.bfloat16)
        dtype = torch.float32 if half else weight.dtype
        self.total = torch.zeros_like(weight, dtype=dtype)
        self.cells = self.total.unbind(1)

    def add(self, cell: int, gradient: Tensor, feature: Tensor) -> None:
        total = self.cells[cell]
        if total.dtype == gradient.dtype:
            total.addmm_(gradient.t(), feature)
        else:
            total += gradient.t() @ feature


def sparse_conv(
    feature: Tensor, weight: Tensor, bias: Tensor | None, pairs: NeighbourMap
) -> Tensor:
    """Convolve voxel features over a neighbour map.

    Args:
        feature: (N_in, C_in).
        weight: (C_out, kx, ky, kz, C_in), spconv's layout.
        bias: (C_out,) or None.
        pairs: map of this resolution and kernel.

    Returns:
        (N_out, C_out), equal to a dense cross-correlation at the output voxels;
        once differentiable; in autocast's dtype inside autocast.
    """
    device = feature.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        feature, weight = feature.to(dtype), weight.to(dtype)
    with torch.autocast(device, enabled=False):
        output = _SparseConv.apply(feature, weight.flatten(1, 3), pairs)
    return output if bias is None else output + bias.to(output.dtype)


def dense_weight(weight: Tensor) -> Tensor:
    """Turn spconv's weight (C_out, kx, ky, kz, C_in) into ``torch.nn.Conv3d``'s."""
    return weight.permute(0, 4, 1, 2, 3).contiguous()


def sparse_weight(weight: Tensor) -> Tensor:
    """Turn ``torch.nn.Conv3d``'s weight (C_out, C_in, kx, ky, kz) into spconv's."""
    return weight.permute(0, 2, 3, 4, 1).contiguous()
