"""PointGroup with our grouping: the host's losses and weights, other instances."""

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import MODELS, build_model


@MODELS.register_module(force=True)
class ToyMirror(nn.Module):
    """Features are the input's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return batch["feat"] * self.weight


def model(kind="PG-grouping", **options):
    """A model whose heads read offset and class from the features."""
    defaults = dict(
        type=kind,
        backbone=dict(type="ToyMirror"),
        backbone_out_channels=6,
        semantic_num_classes=3,
        segment_ignore_index=(-1, 0),
        cluster_propose_points=4,
        cluster_min_points=2,
        voxel_size=0.02,
        criteria=[dict(type="CrossEntropyLoss", ignore_index=-1)],
    )
    net = build_model({**defaults, **options})
    with torch.no_grad():
        eye = torch.eye(6)
        net.bias_head[0].weight.copy_(eye)
        net.bias_head[0].bias.fill_(10.0)  # keeps offsets above the ReLU's zero
        net.bias_head[1].eps = 1e-12
        net.bias_head[3].weight.copy_(eye[:3])
        net.bias_head[3].bias.fill_(-10.0)
        net.seg_head.weight.copy_(20 * eye[3:])
        net.seg_head.bias.zero_()
    return net.eval()


def scene(noise=0.0, bridge=False):
    """Two chairs and a table 30 cm wide, and floor; one cloud of 120 points."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [0.4, 0, 0], [0, 1, 0]])
    number = torch.arange(4).repeat_interleave(30)
    spread = 0.3 * (torch.rand(120, 3, generator=generator) - 0.5)
    coord = centre[number] + spread
    centroid = torch.stack([coord[number == k].mean(0) for k in range(4)])[number]
    segment = torch.tensor([1, 1, 2, 0])[number]
    goal = centroid + noise * torch.randn(120, 3, generator=generator)
    if bridge:  # from one chair's centre to the other's
        goal[24:30] = torch.lerp(
            centroid[0], centroid[30], torch.linspace(0, 1, 8)[1:-1, None]
        )
    return {
        "coord": coord,
        "feat": torch.cat([goal - coord, torch.eye(3)[segment]], dim=1),
        "offset": torch.tensor([120]),
        "segment": segment,
        "instance": torch.where(segment > 0, number, -1),
        "instance_centroid": centroid,
    }


def test_components_are_the_hosts_own():
    ours, theirs = (model(kind)(scene(0.004)) for kind in ("PG-grouping", "PG-v1m2"))
    assert set(theirs) <= set(ours)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value)
    assert ours["pred_classes"].tolist() == [1, 1, 2]


def test_radius_is_in_metres():
    assert len(model(radius=1e-5)(scene(0.004))["pred_classes"]) == 0
    assert model(radius=1.0)(scene(0.004))["pred_classes"].tolist() == [1, 2]


def test_modes_part_what_a_bridge_joins():
    data = scene(0.004, bridge=True)
    joined = model(radius=0.05)(dict(data))["pred_classes"]
    assert joined.tolist() == [1, 2]
    parted = model(grouping="modes", bandwidth=0.04)(dict(data))
    assert parted["pred_classes"].tolist() == [1, 1, 2]
    again = model(grouping="modes", radius=0.02)(dict(data))
    assert torch.equal(parted["pred_instance"], again["pred_instance"])


def test_smoothing_closes_jumps_of_things_alone():
    """Centres of one chair in two heaps 6 cm apart, by turns; the floor's too."""
    data = scene()
    jump = torch.where(torch.arange(120) % 2 == 0, 0.03, -0.03)
    data["feat"][:, 2] += jump  # of heights
    data["coord"][30:90, 0] += 1  # the chairs apart
    rough = model(radius=0.04)(dict(data))
    assert rough["pred_classes"].tolist() == [1, 1, 1, 1, 2, 2]
    smooth = model(radius=0.04, smoothing=dict(rounds=3, reach=0.2))(dict(data))
    assert smooth["pred_classes"].tolist() == [1, 1, 2]
    assert (smooth["pred_instance"][90:] == -1).all()
    torch.testing.assert_close(smooth["loss"], rough["loss"])


def test_a_scene_without_things():
    data = scene()
    data["feat"][:, 3:] = torch.tensor([1.0, 0, 0])
    output = model(grouping="modes", smoothing=dict(rounds=2))(data)
    assert output["pred_masks"].shape == (0, 120)
    assert torch.isfinite(output["loss"])


def test_evaluation_leaves_the_model_as_it_was():
    net = model()
    before = net.bias_head[1].running_mean.clone()
    net(scene())
    assert not net.training
    assert torch.equal(net.bias_head[1].running_mean, before)
    assert not net.bias_head._forward_hooks
    net.train()
    assert set(net(scene())) == {"loss", "seg_loss", "bias_l1_loss", "bias_cosine_loss"}
    assert set(net.state_dict()) == set(model("PG-v1m2").state_dict())


def test_refusals():
    with pytest.raises(UserError, match="grouping='hdbscan'; use one of components"):
        model(grouping="hdbscan")
    with pytest.raises(UserError, match="bandwidth=-1 m; give a length above 0"):
        model(bandwidth=-1)
