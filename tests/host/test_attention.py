"""Serialized attention against the plain formula, one point at a time."""

import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host.standalone import attention
from pointins_plugin.host.standalone.attention import (
    SerializedAttention,
    lay_out_patches,
)
from pointins_plugin.host.standalone.point import Point


def serialized(*counts, channels=8, seed=0):
    """Draw clouds of unique voxels in a box of 12 cells, along two curves."""
    generator = torch.Generator().manual_seed(seed)
    cells = [torch.randperm(12**3, generator=generator)[:count] for count in counts]
    cell = torch.cat(cells)
    point = Point(
        grid_coord=torch.stack([cell // 144, cell // 12 % 12, cell % 12], dim=1),
        offset=torch.tensor(counts).cumsum(0),
    )
    point.serialization(order=("z", "z-trans"))
    point.feat = torch.randn(len(cell), channels, generator=generator)
    return point


def window(rank, count, size):
    """Ranks that a point attends to: its patch, and at the end the last full one."""
    first = rank // size * size
    if first + size > count:
        first = max(0, count - size)
    return range(first, min(first + size, count))


def plain(module, point, size):
    """Attend point by point, in float64."""
    heads, feat = module.num_heads, point.feat
    qkv = module.qkv(feat).double().unflatten(1, (3, heads, -1))
    order = point.serialized_order[module.order_index].tolist()
    attended = torch.empty_like(qkv[:, 0])
    first = 0
    for end in point.offset.tolist():
        for rank in range(end - first):
            here = order[first + rank]
            there = [order[first + r] for r in window(rank, end - first, size)]
            query, key, value = qkv[here, 0], qkv[there, 1], qkv[there, 2]
            score = torch.einsum("hc,khc->hk", query * module.scale, key)
            if module.rpe is not None:
                score = score + bias(module.rpe, point.grid_coord, here, there)
            weight = score.softmax(dim=1)
            attended[here] = torch.einsum("hk,khc->hc", weight, value)
        first = end
    return module.proj(attended.flatten(1).float())


def bias(rpe, grid, here, there):
    """Sum the table's entries of three axes by hand: (H, K)."""
    columns = []
    for other in there:
        step = (grid[here] - grid[other]).clamp(-rpe.bound, rpe.bound) + rpe.bound
        rows = [int(step[axis]) + axis * rpe.rpe_num for axis in range(3)]
        columns.append(rpe.rpe_table[rows].sum(0))
    return torch.stack(columns, dim=1)


# Patches


def test_padding_repeats_points_of_the_second_last_patch():
    patches = lay_out_patches([7, 4], 4)
    assert patches.pad.tolist() == [0, 1, 2, 3, 4, 5, 6, 3, 7, 8, 9, 10]
    assert patches.unpad.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert patches.num_full == 3
    assert patches.short is None
    pad, unpad, bounds = patches.packed
    assert pad.equal(patches.pad)
    assert unpad.equal(patches.unpad)
    assert bounds.tolist() == [0, 4, 8, 12]


def test_shorter_clouds_come_last_as_masked_patches():
    patches = lay_out_patches([2, 5, 0, 3], 4)
    assert patches.pad.tolist() == [2, 3, 4, 5, 6, 3, 4, 5, 0, 1, 1, 7, 8, 9]
    assert patches.num_full == 2
    assert patches.short.tolist() == [[True, True, False], [True, True, True]]
    pad, unpad, bounds = patches.packed
    assert pad.tolist() == [2, 3, 4, 5, 6, 3, 4, 5, 0, 1, 7, 8, 9]
    assert pad[unpad].tolist() == list(range(10))
    assert bounds.tolist() == [0, 4, 8, 10, 13]
    assert bounds.dtype == torch.int32


@pytest.mark.parametrize("counts", [[33, 16, 17, 31], [5, 40, 16, 1], [0, 20, 3]])
def test_every_point_finds_its_slot_and_patches_do_not_mix_clouds(counts):
    patches = lay_out_patches(counts, 16)
    assert patches.pad[patches.unpad].tolist() == list(range(sum(counts)))
    cloud = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    of_slot = cloud[patches.pad[: patches.num_full * 16]].view(-1, 16)
    assert (of_slot == of_slot[:, :1]).all()


@pytest.mark.parametrize(
    ("counts", "sizes", "flash", "expected", "shared"),
    [
        (
            (39,),
            (16, 8),
            False,
            (8, 6),
            True,
        ),  # 40 slots would do, but 48 were laid out
        ((39,), (8, 20), False, (20, 2), True),  # whole patches of the larger size too
        (
            (39,),
            (16, 9),
            False,
            (9, 5),
            False,
        ),  # 48 slots are no whole patches: its own
        (
            (32, 48),
            (16, 32),
            False,
            (32, 3),
            False,
        ),  # a patch of 32 would mix the clouds
        ((39, 5), (16, 8), True, (16, 3), True),
        ((39, 5), (8, 16), True, (8, 5), True),
    ],
)
def test_a_stage_is_laid_out_once(counts, sizes, flash, expected, shared):
    point = serialized(*counts)
    no_upcast = {"upcast_attention": False, "upcast_softmax": False}
    first, second = (
        SerializedAttention(8, 2, size, enable_flash=flash, **no_upcast)
        for size in sizes
    )
    layout, other = first._patches(point), second._patches(point)
    assert (other.size, other.num_full) == expected
    assert (other.pad is layout.pad) == shared
    assert first._patches(point) is layout


# The formula


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qk_scale": 0.3, "qkv_bias": False},
        {"enable_rpe": True},
        {"upcast_attention": False, "upcast_softmax": False},
        {"upcast_attention": True, "upcast_softmax": False},
        {"upcast_attention": False, "upcast_softmax": True, "enable_rpe": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("counts", [(48,), (39,), (16, 33, 20), (5, 40), (40, 0, 12)])
def test_equals_the_plain_formula(counts, options):
    torch.manual_seed(0)
    module = SerializedAttention(
        8, 2, 16, order_index=1, **options | {"enable_flash": False}
    )
    point = serialized(*counts)
    expected = plain(module, point, min(16, *(count for count in counts if count)))
    torch.testing.assert_close(module(point).feat, expected)


@pytest.mark.parametrize("counts", [(48,), (39,), (5, 40, 16, 11), (3, 0, 1)])
def test_with_flash_a_short_cloud_is_one_patch(counts):
    torch.manual_seed(0)
    module = SerializedAttention(
        8, 2, 16, upcast_attention=False, upcast_softmax=False, enable_flash=True
    )
    point = serialized(*counts)
    expected = plain(module, point, 16)
    torch.testing.assert_close(module(point).feat, expected)


@pytest.mark.parametrize("upcast", ["upcast_attention", "upcast_softmax", None])
def test_upcast_options_hold_inside_autocast(monkeypatch, upcast):
    seen = []
    compute = torch.nn.functional.scaled_dot_product_attention

    def record(query, *args, **options):
        seen.append((query.dtype, torch.is_autocast_enabled("cpu")))
        return compute(query, *args, **options)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", record)
    options = {"upcast_attention": False, "upcast_softmax": False}
    if upcast:
        options[upcast] = True
    module = SerializedAttention(8, 2, 16, enable_flash=False, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        feat = module(serialized(48)).feat
    assert feat.dtype == torch.bfloat16
    assert seen == [(torch.float32, False) if upcast else (torch.bfloat16, True)]


def test_gradients_flow_through_padded_slots():
    torch.manual_seed(0)
    module = SerializedAttention(4, 1, 8, enable_flash=False).double()
    point = serialized(11, 9, channels=4)
    feat = point.feat.double().requires_grad_()

    def attend(value):
        fresh = Point(point)
        fresh.feat = value
        return module(fresh).feat

    assert torch.autograd.gradcheck(attend, (feat,))


# flash-attn


def varlen_attention(qkv, bounds, max_seqlen, dropout_p, softmax_scale):
    """Compute what flash-attn's function of packed patches promises."""
    assert qkv.dtype == torch.bfloat16
    assert bounds.diff().max() <= max_seqlen
    parts = []
    for patch in qkv.split(bounds.diff().tolist()):
        query, key, value = patch.float().permute(1, 2, 0, 3)
        score = query @ key.transpose(-2, -1) * softmax_scale
        parts.append((score.softmax(-1) @ value).transpose(0, 1))
    return torch.cat(parts).to(qkv.dtype)


def flash_module():
    torch.manual_seed(0)
    options = {"upcast_attention": False, "upcast_softmax": False}
    return SerializedAttention(8, 2, 16, enable_flash=True, **options)


@pytest.mark.parametrize("counts", [(39,), (5, 40, 16, 11)])
def test_flash_attn_is_used_where_it_runs(monkeypatch, counts):
    module, point = flash_module(), serialized(*counts)
    expected = module(Point(point)).feat
    calls = []

    def kernel(*args, **options):
        calls.append(options)
        return varlen_attention(*args, **options)

    monkeypatch.setattr(attention, "flash_for", lambda device: kernel)
    found = module(Point(point)).feat
    assert len(calls) == 1
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    calls.clear()
    plain_module = SerializedAttention(8, 2, 16, enable_flash=False)
    plain_module(Point(point))
    assert not calls


def test_the_log_tells_the_path_once(capsys):
    attention._say.cache_clear()
    module = flash_module()
    for _ in range(2):
        module(serialized(20))
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "attention by" in line]
    assert len(lines) == 1
    assert "scaled_dot_product_attention" in lines[0]
    assert "enable_flash=True, but flash-attn" in lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "do not divide"),
        ({"enable_rpe": True, "enable_flash": True}, "enable_rpe"),
        ({"upcast_softmax": True, "enable_flash": True}, "upcast_softmax"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(UserError, match=message):
        SerializedAttention(
            **{"channels": 8, "num_heads": 2, "patch_size": 16} | options
        )
