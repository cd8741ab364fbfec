"""SpUNet-v1m1 against Pointcept's numbers, and its own invariances."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pointins_plugin.errors import UserError
from pointins_plugin.host import build_model
from pointins_plugin.host.standalone import convolutions
from pointins_plugin.host.standalone.convolutions import (
    SparseConv3d,
    SparseInverseConv3d,
    SubMConv3d,
)
from pointins_plugin.host.standalone.modules import PointSequential
from pointins_plugin.host.standalone.point import Point
from pointins_plugin.host.standalone.spunet import SpUNetBase
from pointins_plugin.ops.sparse_conv import dense_weight


def small(**changes):
    torch.manual_seed(0)
    config = {
        "in_channels": 4,
        "num_classes": 0,
        "base_channels": 8,
        "channels": (8, 12, 16, 16, 12, 8),
        "layers": (1, 2, 1, 1, 2, 1),
    }
    return SpUNetBase(**config | changes)


def clouds(*counts, extent=12, seed=0):
    """Draw clouds of unique voxels in a box, in random order."""
    generator = torch.Generator().manual_seed(seed)
    cells = [torch.randperm(extent**3, generator=generator)[:n] for n in counts]
    cell = torch.cat(cells)
    grid = [cell // extent**2, cell // extent % extent, cell % extent]
    return {
        "grid_coord": torch.stack(grid, dim=1).int(),
        "feat": torch.randn(len(cell), 4, generator=generator),
        "offset": torch.tensor(counts).cumsum(0),
    }


def randomized(net):
    """Give weights, biases and statistics values that all matter."""
    generator = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point() and value.dim() == 1:
            value.add_(torch.randn(value.shape, generator=generator) * 0.3)
        elif value.is_floating_point():
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    return net


def test_equals_pointcept(golden_dir):
    data = np.load(golden_dir / "spunet_v1m1.npz")
    config = json.loads(str(data["config"]))
    parts = {
        part: {
            key.removeprefix(f"{part}/"): torch.from_numpy(data[key])
            for key in data
            if key.startswith(f"{part}/")
        }
        for part in ("state", "in")
    }
    net = build_model(config).eval()
    own = net.state_dict()
    assert list(own) == list(parts["state"])
    for key, value in parts["state"].items():
        assert own[key].shape == value.shape, key
    net.load_state_dict(parts["state"])
    with torch.no_grad():
        found = net(parts["in"])
    expected = torch.from_numpy(data["expected"])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


# An oracle: the same network on dense volumes, zeroed outside the occupied cells.


def dense_unet(net, batch, extent):
    """Run a SpUNet in evaluation mode by dense convolutions."""
    offset, grid = batch["offset"], batch["grid_coord"].long()
    cloud = torch.bucketize(torch.arange(len(grid)), offset, right=True)
    x, y, z = grid.unbind(1)

    def spread(feat):
        volume = feat.new_zeros(len(offset), extent, extent, extent, feat.shape[1])
        volume[cloud, x, y, z] = feat
        return volume.movedim(-1, 1)

    def subm(conv, volume, mask):
        if conv.weight[0, ..., 0].numel() == 1:
            matrix = conv.weight.view(conv.in_channels, conv.out_channels)
            out = torch.einsum("bcxyz,cd->bdxyz", volume, matrix)
        else:
            padding = conv.weight.shape[1] // 2
            out = F.conv3d(volume, dense_weight(conv.weight), padding=padding)
        bias = 0 if conv.bias is None else conv.bias.view(1, -1, 1, 1, 1)
        return (out + bias) * mask

    def norm(layer, volume, mask):
        volume = F.batch_norm(
            volume,
            layer.running_mean,
            layer.running_var,
            layer.weight,
            layer.bias,
            eps=1e-3,
        )
        return volume * mask

    def block(layer, volume, mask):
        shortcut = volume
        if len(layer.proj) > 1:
            projected = subm(layer.proj[0], volume, mask)
            shortcut = norm(layer.proj[1], projected, mask)
        out = norm(layer.bn1, subm(layer.conv1, volume, mask), mask).relu()
        out = norm(layer.bn2, subm(layer.conv2, out, mask), mask)
        return (out + shortcut).relu()

    masks = [spread(torch.ones(len(grid), 1))]
    for _ in range(net.num_stages):
        masks.append(F.max_pool3d(masks[-1], 2))
    volume = subm(net.conv_input[0], spread(batch["feat"]), masks[0])
    volume = norm(net.conv_input[1], volume, masks[0]).relu()
    skips = []
    for s in range(net.num_stages):
        skips.append(volume)
        volume = F.conv3d(volume, dense_weight(net.down[s][0].weight), stride=2)
        volume = norm(net.down[s][1], volume, masks[s + 1]).relu()
        for layer in net.enc[s]:
            volume = block(layer, volume, masks[s + 1])
    if net.enc_mode:
        if net.num_classes:
            volume = subm(net.final, volume, masks[-1])
        return volume.sum((2, 3, 4)) / masks[-1].sum((2, 3, 4))
    for s in reversed(range(net.num_stages)):
        kernel = dense_weight(net.up[s][0].weight).transpose(0, 1)
        volume = F.conv_transpose3d(volume, kernel, stride=2)
        volume = norm(net.up[s][1], volume, masks[s]).relu()
        volume = torch.cat([volume, skips[s]], dim=1)
        for layer in net.dec[s]:
            volume = block(layer, volume, masks[s])
    if net.num_classes:
        volume = subm(net.final, volume, masks[0])
    return volume.movedim(1, -1)[cloud, x, y, z]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_classes": 5},
        {"enc_mode": True},
        {"enc_mode": True, "num_classes": 3},
        {"base_channels": 6, "channels": (8, 10), "layers": (2, 1)},
        {"channels": (8, 8, 8, 8), "layers": (1, 0, 1, 3)},
    ],
    ids=str,
)
def test_equals_a_dense_unet(changes):
    net, batch = randomized(small(**changes)).eval(), clouds(300, 170, extent=16)
    with torch.no_grad():
        found, expected = net(batch), dense_unet(net, batch, 16)
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


# Invariances


def test_permuting_points_permutes_the_features():
    net, batch = randomized(small()).eval(), clouds(100, 80)
    order = torch.cat([torch.randperm(100), torch.randperm(80) + 100])
    permuted = batch | {key: batch[key][order] for key in ("grid_coord", "feat")}
    torch.testing.assert_close(net(permuted), net(batch)[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("enc_mode", [False, True])
def test_a_batch_of_two_equals_two_batches_of_one(enc_mode):
    net, batch = randomized(small(enc_mode=enc_mode)).eval(), clouds(100, 60)
    together, alone = net(batch), []
    for part in (slice(None, 100), slice(100, None)):
        cloud = {key: batch[key][part] for key in ("grid_coord", "feat")}
        cloud["offset"] = torch.tensor([len(cloud["feat"])])
        alone.append(net(cloud))
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"num_classes": 3}, {"enc_mode": True}])
def test_every_parameter_learns(changes):
    net = small(**changes).train()
    output = net(clouds(150, 70))
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_statistics_move_by_a_hundredth():
    net, batch = small().train(), clouds(150, 70)
    with torch.no_grad():
        weight = net.conv_input[0].weight
        centre = weight[:, 2, 2, 2].clone()
        weight.zero_()[:, 2, 2, 2] = centre
    net(batch)
    feat = batch["feat"] @ centre.t()
    mean = net.conv_input[1].running_mean
    torch.testing.assert_close(mean, 0.01 * feat.mean(0))


def test_voxels_are_found_by_coord_and_grid_size():
    net, batch = small().eval(), clouds(90, 70)
    batch["grid_coord"] -= batch["grid_coord"].amin(0)
    expected = net(batch)
    batch["coord"] = batch.pop("grid_coord") * 0.5 + 0.125
    torch.testing.assert_close(net(batch | {"grid_size": 0.5}), expected)


def test_the_batch_stays_as_it_was():
    batch = clouds(60)
    before = copy.deepcopy(batch)
    small()(batch)
    assert batch.keys() == before.keys()
    assert all(batch[key].equal(before[key]) for key in batch)


def test_autocast_agrees_in_bfloat16():
    net, batch = small().train(), clouds(200, 100)
    expected = net(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(batch)
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1 * scale)
    found.float().square().sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


def test_a_single_voxel_and_a_repeated_one():
    net = small().eval()
    batch = clouds(1)
    assert net(batch).isfinite().all()
    batch = clouds(30)
    batch["grid_coord"][:] = batch["grid_coord"][0]
    assert net(batch).isfinite().all()


def test_an_empty_cloud_changes_nothing():
    net, batch = small().eval(), clouds(60, 50)
    with_empty = batch | {"offset": torch.tensor([60, 60, 110, 110])}
    torch.testing.assert_close(net(with_empty), net(batch))
    enc = small(enc_mode=True).eval()
    per_cloud = enc(with_empty)
    torch.testing.assert_close(per_cloud[[0, 2]], enc(batch))
    assert not per_cloud[[1, 3]].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (1, 1, 1)}, "same even number"),
        ({"layers": (1, 1, 1, 1)}, "found 6 and 4"),
        ({"layers": (1, 1, 1, 1, 0, 1)}, "decoder"),
    ],
)
def test_configs_that_cannot_be_built(changes, message):
    with pytest.raises(UserError, match=message):
        small(**changes)


def test_batches_that_do_not_fit():
    batch = clouds(40)
    with pytest.raises(UserError, match="in_channels"):
        small()(batch | {"feat": torch.randn(40, 6)})
    empty = {
        "grid_coord": torch.zeros(0, 3).int(),
        "feat": torch.zeros(0, 4),
        "offset": torch.tensor([0]),
    }
    with pytest.raises(UserError, match="no points"):
        small()(empty)


# Layers


def test_one_cell_kernels_read_their_weight_as_spconv_does():
    """Spconv reinterprets (out, 1, 1, 1, in) as (in, out) where others transpose."""
    conv = SubMConv3d(2, 3, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(6.0).view(3, 1, 1, 1, 2))
        conv.bias.zero_()
    point = Point(feat=torch.tensor([[1.0, 10.0]]), grid_coord=torch.zeros(1, 3).int())
    assert conv(point).feat.tolist() == [[30.0, 41.0, 52.0]]


def test_an_inverse_convolution_needs_its_key():
    point = Point(clouds(20))
    point.sparsify()
    coarse = SparseConv3d(4, 4, 2, 2, indice_key="a")(point)
    with pytest.raises(KeyError, match="'b'"):
        SparseInverseConv3d(4, 4, 2, "b")(coarse)
    assert SparseInverseConv3d(4, 6, 2, "a")(coarse) is point
    assert point.feat.shape == (20, 6)


def test_maps_are_built_once_for_each_resolution(monkeypatch):
    calls = []
    from pointins_plugin.host.standalone import point as module

    for name in ("submanifold_map", "strided_map"):
        build = getattr(module, name)

        def record(*args, build=build, name=name):
            calls.append(name)
            return build(*args)

        monkeypatch.setattr(module, name, record)
    net = small()
    net(clouds(80)).sum().backward()
    # stem, its level, and two or one below; three strides
    assert sorted(calls) == ["strided_map"] * 3 + ["submanifold_map"] * 5


@pytest.mark.parametrize("installed", [(), ("spconv",), ("spconv_triton",)])
def test_the_library_for_cuda_is_chosen_once_and_logged(monkeypatch, capsys, installed):
    def find(name):
        package = name.removesuffix(".pytorch")
        if package in installed:
            return package
        raise ModuleNotFoundError(f"no module named {package}")

    monkeypatch.setattr(convolutions.importlib, "import_module", find)
    convolutions._spconv.cache_clear()
    for _ in range(2):
        library = convolutions.library_for(torch.device("cuda"))
    convolutions._spconv.cache_clear()
    assert library == (installed[0] if installed else None)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].endswith(installed[0]) if installed else "pip install" in lines[0]
    assert convolutions.library_for(torch.device("cpu")) is None


@pytest.fixture
def spconv(monkeypatch):
    """Take spconv's layers on the CPU, whose kernels are right on one thread."""
    reason = "spconv is not installed: pip install spconv==2.3.8"
    library = pytest.importorskip("spconv.pytorch", reason=reason)
    import spconv.pytorch.ops

    monkeypatch.setattr(spconv.pytorch.ops, "get_current_stream", lambda: 0)
    monkeypatch.setattr(convolutions, "library_for", lambda device: library)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield library
    torch.set_num_threads(before)


def test_spconv_computes_the_same(spconv, monkeypatch):
    """State, forward, backward and shared maps, by the layers used on CUDA."""
    net, batch = randomized(small(num_classes=3)).train(), clouds(150, 90)
    results = []
    for library in (spconv, None):
        monkeypatch.setattr(
            convolutions, "library_for", lambda device, library=library: library
        )
        model = copy.deepcopy(net)
        output = model(batch)
        output.square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append([output, *gradients])
        assert model.state_dict().keys() == net.state_dict().keys()
        copy.deepcopy(model)  # a teacher is a copy of a student that has run
    for by_spconv, own in zip(*results, strict=True):
        scale = own.abs().max().item()
        torch.testing.assert_close(by_spconv, own, rtol=0, atol=2e-5 * scale)


def test_spconv_shares_our_parameters(spconv):
    sequence = PointSequential(SubMConv3d(4, 5, 3, bias=False, indice_key="a"))
    point = Point(clouds(50))
    first = sequence(Point(clouds(50))).feat
    with torch.no_grad():
        sequence[0].weight.mul_(2)
    torch.testing.assert_close(sequence(point).feat, 2 * first)
    sequence[0].weight = torch.nn.Parameter(torch.zeros_like(sequence[0].weight))
    assert not sequence(Point(clouds(50))).feat.any()
    assert [name for name, _ in sequence.named_parameters()] == ["0.weight"]
