"""PointGroup: offset losses by hand, exact instances from exact offsets, no things."""

import inspect

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import MODELS, build_model
from pointins_plugin.host.standalone.point_group import bias_losses


@MODELS.register_module(force=True)
class ToyCopy(nn.Module):
    """Features are the input's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return batch["feat"] * self.weight


def model(**options):
    defaults = dict(
        type="PG-v1m2",
        backbone=dict(type="ToyCopy"),
        backbone_out_channels=6,
        semantic_num_classes=3,
        segment_ignore_index=(-1, 0),
        cluster_propose_points=4,
        cluster_min_points=2,
        voxel_size=0.02,
        criteria=[dict(type="CrossEntropyLoss", ignore_index=-1)],
    )
    return build_model({**defaults, **options})


def knowing(**options):
    """A model whose heads read offset and class from the features."""
    net = model(**options)
    with torch.no_grad():
        eye = torch.eye(6)
        net.bias_head[0].weight.copy_(eye)
        net.bias_head[0].bias.fill_(10.0)  # keeps offsets above the ReLU's zero
        net.bias_head[1].eps = 0.0
        net.bias_head[3].weight.copy_(eye[:3])
        net.bias_head[3].bias.fill_(-10.0)
        net.seg_head.weight.copy_(20 * eye[3:])
        net.seg_head.bias.zero_()
    return net.eval()


def scene(seed=0, per=30):
    """Two chairs and a table 30 cm wide, and floor; one cloud."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [0.4, 0, 0], [0, 1, 0]])
    number = torch.arange(4).repeat_interleave(per)
    spread = 0.3 * (torch.rand(4 * per, 3, generator=generator) - 0.5)
    coord = centre[number] + spread
    centroid = torch.stack([coord[number == k].mean(0) for k in range(4)])[number]
    segment = torch.tensor([1, 1, 2, 0])[number]
    onehot = torch.eye(3)[segment]
    return {
        "coord": coord,
        "feat": torch.cat([centroid - coord, onehot], dim=1),
        "offset": torch.tensor([4 * per]),
        "segment": segment,
        "instance": torch.where(segment > 0, number, -1),
        "instance_centroid": centroid,
    }


def test_losses_by_hand():
    prediction = torch.tensor([[1.0, 0, 0], [0, 2, 0], [9, 9, 9]])
    target = torch.tensor([[1.0, 1, 0], [0, -1, 0], [0, 0, 0]])
    mask = torch.tensor([True, True, False])
    distance, cosine = bias_losses(prediction, target, mask)
    assert float(distance) == pytest.approx((1 + 3) / 2)
    assert float(cosine) == pytest.approx(-(0.5**0.5 - 1) / 2)


def test_losses_of_degenerate_input():
    zero = torch.zeros(4, 3, requires_grad=True)
    for mask in (torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
        zero.grad = None
        distance, cosine = bias_losses(zero, torch.zeros(4, 3), mask)
        (distance + cosine).backward()
        assert distance == cosine == 0
        assert torch.isfinite(zero.grad).all()
    empty = bias_losses(zero[:0], torch.zeros(0, 3), mask[:0])
    assert empty[0] == empty[1] == 0
    half = bias_losses(zero.bfloat16() + 1, torch.ones(4, 3), mask)
    assert half[0].dtype == torch.float32


def test_gradients():
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(6, 3, generator=generator, dtype=torch.double)
    prediction = torch.randn(6, 3, generator=generator, dtype=torch.double)
    mask = torch.arange(6) % 3 > 0
    assert torch.autograd.gradcheck(
        lambda x: sum(bias_losses(x, target, mask)), prediction.requires_grad_()
    )


def test_exact_offsets_give_exact_instances():
    data = scene()
    output = knowing()(dict(data))
    assert output["pred_classes"].tolist() == [1, 1, 2]
    assert output["pred_masks"].shape == (3, 120)
    expected = data["instance"] == torch.arange(3)[:, None]
    assert torch.equal(output["pred_masks"].bool(), expected)
    assert output["pred_instance"].tolist() == data["instance"].tolist()
    assert (output["pred_scores"] > 0.99).all()
    assert output["bias_l1_loss"] < 1e-4
    assert output["bias_cosine_loss"].item() == pytest.approx(-1, abs=1e-4)


def test_a_scene_without_things():
    data = scene()
    data["feat"][:, 3:] = torch.tensor([1.0, 0, 0])
    output = knowing()(data)
    assert output["pred_masks"].shape == (0, 120)
    assert len(output["pred_scores"]) == len(output["pred_classes"]) == 0
    assert torch.isfinite(output["loss"])


def test_unlabelled_scenes_are_predicted():
    data = scene()
    for key in ("segment", "instance", "instance_centroid"):
        del data[key]
    assert "loss" not in knowing()(data)


def test_proposals_have_more_points_than_asked():
    for limit, found in ((29, 3), (30, 0)):
        assert (
            len(knowing(cluster_propose_points=limit)(scene())["pred_classes"]) == found
        )
    assert len(knowing(cluster_min_points=31)(scene())["pred_classes"]) == 0


def test_radius_is_in_voxels():
    data = scene()
    data["feat"][:, :3] += 0.004 * torch.randn(120, 3)
    exact = knowing(cluster_thresh=1.5, voxel_size=0.02)(dict(data))
    same = knowing(cluster_thresh=3, voxel_size=0.01)(dict(data))
    assert torch.equal(exact["pred_instance"], same["pred_instance"])
    assert len(knowing(voxel_size=1e-5)(dict(data))["pred_classes"]) == 0
    merged = knowing(voxel_size=1.0)(dict(data))
    assert merged["pred_classes"].tolist() == [1, 2]


def test_clouds_of_a_batch_are_apart():
    one, two = scene(0), scene(1)
    both = {key: torch.cat([one[key], two[key]]) for key in one}
    both["offset"] = torch.tensor([120, 240])
    output = knowing()(both)
    assert len(output["pred_classes"]) == 6
    assert output["pred_masks"][:3, 120:].sum() == 0


def test_training_returns_scalars_and_gradients():
    net = model()
    output = net(scene())
    assert set(output) == {"loss", "seg_loss", "bias_l1_loss", "bias_cosine_loss"}
    output["loss"].backward()
    assert all(p.grad is not None for p in net.parameters())
    frozen = model(freeze_backbone=True)
    assert not frozen.backbone.weight.requires_grad
    assert set(net(scene(), return_point=True)) == {"point"}


def test_names_of_weights_are_pointcepts():
    heads = {key.split(".", 1)[0] for key in model().state_dict()}
    assert heads == {"backbone", "bias_head", "seg_head"}
    assert model().bias_head[1].eps == 1e-3


def test_the_older_class():
    old = build_model(
        dict(type="PG-v1m1", backbone=dict(type="ToyCopy"), backbone_out_channels=6)
    )
    assert "loss" in old(scene())
    names = list(inspect.signature(MODELS.get("PG-v1m1")).parameters)
    assert "criteria" not in names


def test_refusals():
    with pytest.raises(UserError, match=r"cluster_thresh=0\.0 of voxel_size"):
        model(cluster_thresh=0.0)
