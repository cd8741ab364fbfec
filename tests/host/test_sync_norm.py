"""BatchNorm over processes equals BatchNorm over their rows."""

import pytest
import torch
import torch.nn as nn

from pointins_plugin.host import comm, launch
from pointins_plugin.host.standalone.sync_norm import (
    SharedBatchNorm,
    synchronize_batch_norm,
)

CPU = torch.device("cpu")
CASES = {
    "points": (nn.BatchNorm1d, (7, 3), {"eps": 1e-3, "momentum": 0.01}),
    "sequences": (nn.BatchNorm1d, (6, 3, 4), {"momentum": None}),
    "images": (nn.BatchNorm2d, (4, 3, 2, 2), {"affine": False}),
    "nothing tracked": (nn.BatchNorm1d, (5, 3), {"track_running_stats": False}),
}


def rows(name):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(CASES[name][1], generator=generator).double() * 2 + 100


def layer(name):
    kind, shape, options = CASES[name]
    norm = kind(shape[1], **options).double()
    if norm.affine:
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
    return norm


def results(norm, x):
    """Return outputs, gradients and statistics after two batches."""
    x = x.clone().requires_grad_()
    norm.train()
    norm(x[:, :].flip(0) + 1)
    y = norm(x)
    (y**3).sum().backward()
    found = {"y": y.detach(), "x": x.grad}
    found.update({key: p.grad for key, p in norm.named_parameters()})
    found.update({key: b.clone() for key, b in norm.named_buffers()})
    found["eval"] = norm.eval()(x).detach()
    return found


def shared(folder):
    """The second process has all rows but two, or none."""
    for name in CASES:
        for first in (2, len(rows(name))):
            norm = synchronize_batch_norm(layer(name), CPU)
            assert isinstance(norm, SharedBatchNorm)
            part = slice(0, first) if comm.get_rank() == 0 else slice(first, None)
            found = results(norm, rows(name)[part])
            for key, value in norm.named_parameters():
                found[key] = comm.all_reduce(value.grad)
            torch.save(found, f"{folder}/{name} {first} {comm.get_rank()}")


def test_two_processes_equal_one(tmp_path):
    launch(shared, 2, cfg=(str(tmp_path),))
    for name in CASES:
        expected = results(layer(name), rows(name))
        for first in (2, len(rows(name))):
            one, two = (torch.load(tmp_path / f"{name} {first} {r}") for r in (0, 1))
            assert one.keys() == two.keys() == expected.keys()
            for key, value in expected.items():
                if key == "eval" and "running_mean" not in expected:
                    continue  # takes the statistics of its own rows
                joined = one[key]
                if key in ("y", "x", "eval"):
                    joined = torch.cat([one[key], two[key]])
                else:
                    torch.testing.assert_close(one[key], two[key])
                torch.testing.assert_close(joined, value)


def test_names_values_and_modes_stay():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3)), nn.ReLU())
    net[1][0].running_mean += 2
    net.eval()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    turned = synchronize_batch_norm(net, CPU)
    assert isinstance(turned[1][0], SharedBatchNorm)
    assert not turned[1][0].training
    assert state.keys() == turned.state_dict().keys()
    assert all(torch.equal(v, state[k]) for k, v in turned.state_dict().items())
    with pytest.raises(ValueError, match=r"expected \(N, C"):
        turned[1][0](torch.zeros(3))
