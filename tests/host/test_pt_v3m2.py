"""PT-v3m2 against Pointcept's numbers, and its own invariances."""

import json

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host.standalone.point import Point
from pointins_plugin.host.standalone.pt_v3m2 import (
    DropPath,
    GridPooling,
    PointTransformerV3,
)
from pointins_plugin.models.tokens import up_cast


def golden(folder, name):
    data = np.load(folder / f"{name}.npz")
    config = json.loads(str(data["config"]))
    config.pop("type")
    tensors = {
        part: {
            key[len(part) + 1 :]: torch.from_numpy(data[key])
            for key in data
            if key.startswith(f"{part}/")
        }
        for part in ("state", "in")
    }
    return config, tensors["state"], tensors["in"], torch.from_numpy(data["expected"])


@pytest.mark.parametrize("name", ["ptv3m2_encoder", "ptv3m2_decoder"])
def test_equals_pointcept(golden_dir, name):
    """Pooling shuffles its orders even where the config does not (as Pointcept's).

    The files were made after ``torch.manual_seed(4)``: building the model from that
    seed gives their weights, and leaves the generator where their forward began.
    """
    config, state, batch, expected = golden(golden_dir, name)
    torch.manual_seed(4)
    net = PointTransformerV3(**config)
    own = net.state_dict()
    assert own.keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(own[key], value, msg=key)
    net.load_state_dict(state)
    net.eval()
    with torch.no_grad():
        point = net(batch)
        if config["enc_mode"]:
            point, _ = up_cast(point, len(config["stride"]))
    torch.testing.assert_close(point.feat, expected, atol=1e-4, rtol=0)


def small(**changes):
    """Build a small backbone; z orders do not depend on the extent of the batch."""
    torch.manual_seed(0)
    config = {
        "in_channels": 4,
        "order": ("z", "z-trans"),
        "stride": (2, 2),
        "enc_depths": (1, 2, 1),
        "enc_channels": (8, 12, 16),
        "enc_num_head": (2, 2, 4),
        "enc_patch_size": (16, 16, 16),
        "dec_depths": (1, 2),
        "dec_channels": (8, 12),
        "dec_num_head": (2, 2),
        "dec_patch_size": (16, 16),
        "mlp_ratio": 2,
        "drop_path": 0.0,
        "enable_flash": False,
    }
    return PointTransformerV3(**config | changes)


def clouds(*counts, seed=0):
    """Draw clouds of unique voxels in a box of 12 cells, in random order."""
    generator = torch.Generator().manual_seed(seed)
    grid = []
    for count in counts:
        cell = torch.randperm(12**3, generator=generator)[:count]
        grid.append(torch.stack([cell // 144, cell // 12 % 12, cell % 12], dim=1))
    grid = torch.cat(grid)
    return {
        "coord": grid * 0.1 + 0.05,
        "grid_coord": grid.int(),
        "feat": torch.randn(len(grid), 4, generator=generator),
        "offset": torch.tensor(counts).cumsum(0),
        "grid_size": 0.1,
    }


def features(net, batch, seed=0):
    """Run a backbone with the pooled orders that a seed draws."""
    torch.manual_seed(seed)
    return net(dict(batch)).feat


# Pooling


def test_pooling_takes_maxima_and_means_of_cells():
    torch.manual_seed(0)
    batch = clouds(60, 40)
    extra = {
        "origin_coord": torch.randn(100, 3),
        "color": torch.rand(100, 3),
        "name": ["a", "b"],
        "mask": torch.zeros(100, dtype=torch.bool),
    }
    pool = GridPooling(8, 6)
    point = Point(batch | extra)
    point.serialization(order=("z",))
    point.feat = torch.randn(100, 8)
    feat = point.feat
    pooled = pool(point)

    cells = torch.cat([point.batch[:, None], point.grid_coord // 2], dim=1)
    unique, cluster = torch.unique(cells, dim=0, return_inverse=True)
    assert pooled.grid_coord.tolist() == unique[:, 1:].tolist()
    assert pooled.batch.tolist() == unique[:, 0].tolist()
    assert pooled.offset.tolist() == unique[:, 0].bincount().cumsum(0).tolist()
    assert pooled.pooling_inverse.tolist() == cluster.tolist()
    assert pooled.pooling_parent is point
    projected = pool.proj(feat)
    largest = [projected[cluster == cell].amax(0) for cell in range(len(unique))]
    expected = pool.act[0](pool.norm[0](torch.stack(largest)))
    torch.testing.assert_close(pooled.feat, expected)
    for key in ("coord", "origin_coord", "color"):
        mean = [point[key][cluster == cell].mean(0) for cell in range(len(unique))]
        torch.testing.assert_close(pooled[key], torch.stack(mean))
    assert pooled.name == ["a", "b"]
    assert pooled.grid_size == 0.2
    assert "mask" not in pooled


# The whole


def test_permuting_the_points_of_clouds_permutes_the_features():
    net, batch = small(enc_mode=False).eval(), clouds(100, 80)
    order = torch.cat([torch.randperm(100), torch.randperm(80) + 100])
    permuted = {
        key: value[order] if key in ("coord", "grid_coord", "feat") else value
        for key, value in batch.items()
    }
    expected = features(net, batch)[order]
    torch.testing.assert_close(features(net, permuted), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("flash", "counts"), [(False, (90, 90)), (True, (90, 40)), (True, (9, 200))]
)
def test_a_batch_of_two_equals_two_batches_of_one(flash, counts):
    net = small(enable_flash=flash, enc_patch_size=(8, 8, 4), dec_patch_size=(8, 8))
    net.eval()
    batch = clouds(*counts)
    first = counts[0]
    together = features(net, batch)
    for part in (slice(None, first), slice(first, None)):
        alone = {key: batch[key][part] for key in ("coord", "grid_coord", "feat")}
        alone["offset"] = torch.tensor([len(alone["feat"])])
        expected = together[part]
        torch.testing.assert_close(features(net, alone), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"enable_rpe": True},
        {"enable_flash": True},
        {"enc_mode": True},
        {"layer_scale": 0.1},
        {"pre_norm": False},
        {"upcast_attention": True, "upcast_softmax": True},
        {"qkv_bias": False, "qk_scale": 0.5},
        {"drop_path": 0.3, "attn_drop": 0.1, "proj_drop": 0.1},
        {"enc_patch_size": (64, 32, 8), "dec_patch_size": (16, 8)},
        {"enc_depths": (1, 0, 1), "dec_depths": (0, 1)},
        {"order": "hilbert", "stride": (4, 2)},
        {"traceable": True, "mask_token": True},
    ],
    ids=str,
)
def test_every_parameter_learns(changes):
    net, batch = small(**changes).train(), clouds(150, 70)
    if changes.get("mask_token"):
        batch["mask"] = torch.arange(220) % 3 == 0
    point = net(batch)
    if changes.get("enc_mode"):
        point, _ = up_cast(point, 2)
    assert point.feat.shape[0] == 220
    (point.feat * torch.randn_like(point.feat)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_points_of_one_cell_and_tiny_clouds():
    batch = clouds(60, 3)
    batch["grid_coord"][1:9] = batch["grid_coord"][0]
    for flash in (False, True):
        feat = features(small(enable_flash=flash), batch)
        assert feat.isfinite().all()
        feat.sum().backward()


def test_an_empty_cloud_changes_nothing():
    batch = clouds(60, 50)
    with_empty = batch | {"offset": torch.tensor([60, 60, 110, 110])}
    for flash in (False, True):
        net = small(enable_flash=flash).eval()
        expected = features(net, batch)
        torch.testing.assert_close(features(net, with_empty), expected)


def test_masked_points_show_the_token_only():
    net, batch = small(mask_token=True).eval(), clouds(80)
    torch.nn.init.normal_(net.embedding.mask_token)
    batch["mask"] = torch.arange(80) % 2 == 0
    changed = batch | {"feat": torch.where(batch["mask"][:, None], 7, batch["feat"])}
    seen = batch | {"mask": torch.zeros(80, dtype=torch.bool)}
    assert features(net, batch).equal(features(net, changed))
    assert not features(net, batch).allclose(features(net, seen))


def test_traceable_decoder_keeps_its_coarse_stages():
    point = small(traceable=True)(clouds(80))
    widths = []
    while True:
        widths.append(point.feat.shape[1])
        if "unpooling_parent" not in point:
            break
        point = point.unpooling_parent
    assert widths == [8, 12, 16]


def test_autocast_agrees_in_bfloat16():
    net, batch = small(), clouds(120, 60)
    expected = features(net, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = features(net, batch)
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05 * scale)
    found.float().square().sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


def test_threads_do_not_change_the_result():
    net, batch = small(), clouds(900, 700)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(features(net, batch).detach())
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-5)


def test_frozen_encoder():
    net = small(freeze_encoder=True)
    features(net, clouds(60)).sum().backward()
    frozen = {n.split(".")[0] for n, p in net.named_parameters() if p.grad is None}
    assert frozen == {"embedding", "enc"}


def test_drop_path_drops_points_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, rows = DropPath(0.25), torch.ones(20000, 3)
    dropped = drop(rows)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == dropped[:, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert drop.eval()(rows) is rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enc_channels": (8, 12)}, "enc_channels has 2 entries"),
        ({"dec_depths": (1,)}, "dec_depths has 1 entries"),
        ({"enc_num_head": (3, 2, 4)}, "do not divide"),
        ({"enable_flash": True, "enable_rpe": True}, "enable_rpe"),
    ],
)
def test_configs_that_cannot_be_built(changes, message):
    with pytest.raises(UserError, match=message):
        small(**changes)


def test_batches_that_do_not_fit():
    batch = clouds(40)
    with pytest.raises(UserError, match="in_channels"):
        small()(batch | {"feat": torch.randn(40, 6)})
    with pytest.raises(UserError, match="mask_token"):
        small()(batch | {"mask": torch.zeros(40, dtype=torch.bool)})
