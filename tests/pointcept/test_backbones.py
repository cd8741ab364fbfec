"""Our backbones beside Pointcept's: same names, seeds, features and gradients.

Every case builds both from one seed, gives both the same weights, and compares one
forward and backward. Pointcept's side runs with its own layers.
"""

import pytest
import torch

from pointins_plugin import host
from pointins_plugin.host.standalone.pt_v3m2 import PointTransformerV3
from pointins_plugin.host.standalone.spunet import SpUNetBase

pytestmark = pytest.mark.skipif(
    host.HOST != "pointcept",
    reason="set POINTCEPT_ROOT to a checkout of Pointcept with its requirements",
)

COUNTS = [(200,), (150, 90, 61)]


@pytest.fixture(autouse=True)
def _one_thread():
    """More of them race in spconv's CPU kernels."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clouds(counts, extent=14):
    """Draw clouds of unique voxels in a box, in random order."""
    generator = torch.Generator().manual_seed(0)
    cells = [torch.randperm(extent**3, generator=generator)[:n] for n in counts]
    cell = torch.cat(cells)
    grid = [cell // extent**2, cell // extent % extent, cell % extent]
    grid = torch.stack(grid, dim=1)
    return {
        "coord": grid * 0.1 + 0.05,
        "grid_coord": grid.int(),
        "grid_size": 0.1,
        "feat": torch.randn(len(grid), 4, generator=generator),
        "offset": torch.tensor(counts).cumsum(0),
    }


def pair(ours, theirs, config):
    """Build both from one seed and give both the same values, all of which matter."""
    nets = []
    for build in (ours, theirs):
        torch.manual_seed(1)
        nets.append(build(**config))
    own, reference = (net.state_dict() for net in nets)
    assert list(own) == list(reference)
    for name, value in reference.items():
        assert own[name].shape == value.shape, name
        assert own[name].equal(value), f"{name}: another initial value"
    generator = torch.Generator().manual_seed(2)
    for name, value in reference.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point() and value.dim() == 1:
            value.add_(torch.randn(value.shape, generator=generator) * 0.3)
        elif value.is_floating_point():
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    # names go both ways
    nets[0].load_state_dict(reference)
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def agree(nets, batch, read):
    """Compare features and the gradients of a random functional of them."""
    outputs, gradients = [], []
    for net in nets:
        torch.manual_seed(3)
        output = read(net(dict(batch)))
        generator = torch.Generator().manual_seed(4)
        (output * torch.randn(output.shape, generator=generator)).sum().backward()
        outputs.append(output.detach())
        parameters = net.named_parameters()
        gradients.append({n: p.grad for n, p in parameters if p.grad is not None})
    scale = outputs[1].abs().max().item()
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5 * scale)
    for name, expected in nets[1].named_buffers():  # what training has moved
        torch.testing.assert_close(dict(nets[0].named_buffers())[name], expected)
    lacking = gradients[0].keys() - gradients[1].keys()
    if not nets[1].training:  # spconv adds its bias without a gradient then
        lacking = {name for name in lacking if not name.endswith("cpe.0.bias")}
    assert not lacking
    for name, expected in gradients[1].items():
        scale = max(1e-6, expected.abs().max().item())
        found = gradients[0][name]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale, msg=name)


# PT-v3m2


def every_stage(point):
    """Join the features of a Point and of every stage that hangs on it."""
    parts = [point.feat]
    for link in ("unpooling_parent", "pooling_parent"):
        while link in point:
            point = point[link]
            parts.append(point.feat)
    return torch.cat([part.flatten() for part in parts])


TRANSFORMER = {
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
    "shuffle_orders": False,
}
FOUR_STAGES = {
    "stride": (2, 2, 2),
    "enc_depths": (2, 1, 1, 1),
    "enc_channels": (6, 12, 18, 24),
    "enc_num_head": (1, 2, 3, 4),
    "enc_patch_size": (32, 32, 32, 32),
    "dec_depths": (1, 1, 1),
    "dec_channels": (10, 12, 18),
    "dec_num_head": (2, 2, 3),
    "dec_patch_size": (32, 32, 32),
}
FOUR_ORDERS = ("hilbert", "hilbert-trans", "z", "z-trans")


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        # A resolution's encoder and decoder share their patches in Pointcept.
        {"enc_patch_size": (48, 20, 7), "dec_patch_size": (48, 20)},
        {"enc_patch_size": (1024, 1024, 1024), "dec_patch_size": (1024, 1024)},
        {"enc_mode": True, "traceable": True},
        {"order": FOUR_ORDERS, "enc_depths": (4, 1, 5), "shuffle_orders": True},
        {"order": ("hilbert",), "stride": (4, 3)},
        {"order": "z"},
        {"enable_rpe": True, "order": ("hilbert", "z")},
        {"upcast_attention": True, "upcast_softmax": True},
        {"layer_scale": 0.1, "pre_norm": False},
        {"qkv_bias": False, "qk_scale": 0.4, "mlp_ratio": 1.5},
        {"enc_depths": (1, 0, 2), "dec_depths": (0, 1)},
        {"traceable": True, "freeze_encoder": True},
        {"mask_token": True},
        FOUR_STAGES,
    ],
    ids=str,
)
def test_transformer(changes, counts):
    nets = pair(PointTransformerV3, host.PointTransformerV3, TRANSFORMER | changes)
    batch = clouds(counts)
    if changes.get("mask_token"):
        batch["mask"] = torch.arange(sum(counts)) % 3 == 0
    agree([net.eval() for net in nets], batch, every_stage)


def test_transformer_in_training():
    """The random numbers of dropped paths and features are drawn alike."""
    config = TRANSFORMER | {"drop_path": 0.3, "proj_drop": 0.1, "shuffle_orders": True}
    nets = pair(PointTransformerV3, host.PointTransformerV3, config)
    agree([net.train() for net in nets], clouds((150, 90)), every_stage)


# SpUNet-v1m1

UNET = {
    "in_channels": 4,
    "num_classes": 0,
    "base_channels": 8,
    "channels": (8, 12, 16, 24, 24, 16, 12, 8),
    "layers": (1, 1, 1, 1, 1, 1, 1, 1),
}


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("counts", [(300,), (200, 100, 61)], ids=str)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_classes": 5},
        {"enc_mode": True},
        {"enc_mode": True, "num_classes": 7},
        {"channels": (8, 12, 12, 8), "layers": (1, 2, 1, 1)},
        {"base_channels": 6, "channels": (8, 8, 8, 8), "layers": (2, 0, 1, 3)},
        {"channels": (8, 8), "layers": (1, 1), "num_classes": 3},
    ],
    ids=str,
)
def test_unet(changes, counts, train):
    nets = pair(SpUNetBase, host.SpUNetBase, UNET | changes)
    batch = clouds(counts, extent=40 if len(nets[0].layers) == 8 else 14)
    agree([net.train(train) for net in nets], batch, lambda output: output)
