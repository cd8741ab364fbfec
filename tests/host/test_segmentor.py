"""Segmentors: what is returned when, features of all levels, frozen backbones."""

import pytest
import torch
import torch.nn as nn

from pointins_plugin.host import MODELS, Point, build_model
from pointins_plugin.host.standalone.segmentor import input_features

CRITERIA = [dict(type="CrossEntropyLoss", ignore_index=-1)]
ENCODER = dict(
    type="PT-v3m2",
    in_channels=4,
    stride=(2, 2),
    enc_depths=(1, 1, 1),
    enc_channels=(8, 16, 16),
    enc_num_head=(1, 1, 2),
    enc_patch_size=(32, 32, 32),
    drop_path=0.0,
    enc_mode=True,
)


@MODELS.register_module(force=True)
class ToyLogits(nn.Module):
    """A backbone of the older kind: it returns features."""

    def __init__(self, out=3):
        super().__init__()
        self.linear = nn.Linear(4, out)

    def forward(self, batch):
        return self.linear(batch["feat"])


def batch(n=120, labels=True):
    generator = torch.Generator().manual_seed(0)
    data = {
        "coord": torch.rand(n, 3, generator=generator),
        "feat": torch.randn(n, 4, generator=generator),
        "offset": torch.tensor([n // 2, n]),
    }
    data["grid_coord"] = (data["coord"] * 10).long()
    if labels:
        data["segment"] = torch.randint(-1, 3, (n,), generator=generator)
    return data


def test_features_of_all_levels_finest_first():
    fine = Point(feat=torch.zeros(4, 1), batch=torch.zeros(4, dtype=torch.long))
    coarse = Point(
        feat=torch.tensor([[1.0, 2], [3, 4]]), batch=torch.zeros(2, dtype=torch.long)
    )
    coarse["pooling_parent"] = fine
    coarse["pooling_inverse"] = torch.tensor([0, 1, 1, 0])
    feature, point = input_features(coarse)
    assert feature.tolist() == [[0, 1, 2], [0, 3, 4], [0, 3, 4], [0, 1, 2]]
    assert point is fine
    plain = torch.zeros(2, 3)
    assert input_features(plain) == (plain, None)


@pytest.mark.parametrize("kind", ["DefaultSegmentor", "DefaultSegmentorV2"])
def test_what_is_returned_when(kind):
    options = {"num_classes": 3, "backbone_out_channels": 3} if "V2" in kind else {}
    backbone = dict(type="ToyLogits")
    model = build_model(
        dict(type=kind, backbone=backbone, criteria=CRITERIA, **options)
    )
    assert set(model(batch())) == {"loss"}
    model.eval()
    assert set(model(batch())) == {"loss", "seg_logits"}
    assert model(batch(labels=False))["seg_logits"].shape == (120, 3)
    assert set(model(batch(labels=False))) == {"seg_logits"}


def test_linear_probe_of_an_encoder():
    model = build_model(
        dict(
            type="DefaultSegmentorV2",
            num_classes=3,
            backbone_out_channels=40,
            backbone=ENCODER,
            criteria=CRITERIA,
            freeze_backbone=True,
        )
    )
    model(batch())["loss"].backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert model.seg_head.weight.grad.abs().sum() > 0
    model.eval()
    output = model(batch(), return_point=True)
    assert len(output["point"].coord) == len(output["seg_logits"]) == 120
    assert sorted(n for n, _ in model.named_children()) == [
        "backbone",
        "criteria",
        "seg_head",
    ]
    assert not [key for key in model.state_dict() if key.startswith("criteria")]


def test_no_head_hands_features_on():
    model = build_model(
        dict(
            type="DefaultSegmentorV2",
            num_classes=0,
            backbone_out_channels=3,
            backbone=dict(type="ToyLogits"),
        )
    )
    data = batch(labels=False)
    expected = model.backbone(data)
    torch.testing.assert_close(model.eval()(data)["seg_logits"], expected)
