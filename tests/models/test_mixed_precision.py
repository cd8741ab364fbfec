"""A whole training step in bfloat16: finite, and with the targets of float32."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_point_ins import PAPER, SPATIAL, model
from toy_scenes import batch

PRESETS = {"paper": PAPER, "spatial": SPATIAL}
# bfloat16 has 8 bits: features are off by some 0.4 %, losses by up to 0.8 % here
TOLERANCE = 0.02


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def step(name, dtype=torch.float32):
    """Take a step forward and backward; return the model and its losses."""
    net = model(PRESETS[name])
    net.train()
    net.set_progress(0.5)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = net(batch())
    output["loss"].backward()
    return net, output


@pytest.mark.parametrize("name", PRESETS)
def test_losses_and_gradients(name):
    """Losses are float32 and near those of the float32 step of the same seed."""
    net, output = step(name, torch.bfloat16)
    _, expected = step(name)
    gradients = [p.grad for p in net.student.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    for key, value in output.items():
        assert value.dtype == torch.float32, key
        assert torch.isfinite(value), key
        if key.endswith("loss"):
            assert value.item() == pytest.approx(expected[key].item(), rel=TOLERANCE)


@pytest.mark.parametrize("name", PRESETS)
def test_offsets_keep_their_digits(name):
    """Offsets in the origin frame, of student and teacher, are not rounded."""
    net, _ = step(name, torch.bfloat16)
    found = net.latest
    for shift in (
        found["student_shift"],
        found["teacher_shift"],
        found["target"].shift,
    ):
        assert shift.dtype == torch.float32
        assert (shift != shift.bfloat16().float()).any()


@pytest.mark.parametrize("name", PRESETS)
def test_targets_are_those_of_float32(name):
    """From the same offsets and features autocast makes the same targets."""
    data = batch()
    coord, offset = data["global_origin_coord"], data["global_offset"]
    generator = torch.Generator().manual_seed(0)
    shift = 0.1 * torch.randn(coord.shape, generator=generator)
    feature = torch.randn(len(coord), 32, generator=generator)
    cloud = torch.bucketize(torch.arange(len(coord)), offset, right=True)
    branch = model(PRESETS[name]).offset_branch

    def targets():
        generator.manual_seed(1)
        return branch.targets(coord, shift, offset, cloud, feature, 0.05, generator)

    expected = targets()
    with autocast():
        found = targets()
    assert expected.label.max() > 0
    for part in ("shift", "mask", "label", "plane"):
        a, b = getattr(found, part), getattr(expected, part)
        assert (a is None and b is None) or torch.equal(a, b), part
