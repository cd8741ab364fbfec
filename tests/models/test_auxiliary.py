"""The segmentor with an offset branch: what it adds and what it leaves alone."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_scenes import BACKBONE, PRIOR, scene

from pointins_plugin.errors import UserError
from pointins_plugin.host import build_model
from pointins_plugin.models import auxiliary
from pointins_plugin.models.tokens import cell_tokens

BRANCH = {
    "prior": PRIOR,
    "hidden_channels": 32,
    "odr": {"type": "ODRLoss", "direction": "none"},
    "scr": {
        "type": "SCRLoss",
        "graph": "spatial",
        "segments": "none",
        "radius": 2.5,
        "drop_huge": 3.0,
        "fallback": "none",
        "exclude_planes": True,
    },
}


def model(branch=BRANCH, **options):
    torch.manual_seed(0)
    return build_model(
        {
            "type": "OffsetAuxSegmentor",
            "num_classes": 2,
            "backbone_out_channels": 64,
            "backbone": BACKBONE,
            "offset_branch": branch,
            "token_size": 0.05,
            **options,
        }
    )


def batch(labels=True, seed=0):
    """Two scenes of a floor (class 0, no instance) and three boxes (class 1)."""
    scenes = [scene(seed), scene(seed + 1)]
    one = torch.cat([torch.full((400,), -1), torch.arange(3).repeat_interleave(125)])
    coord = torch.cat(scenes)
    data = {
        "coord": coord,
        "feat": torch.cat([coord, coord], 1),
        "offset": torch.tensor([len(points) for points in scenes]).cumsum(0),
        "segment": (one >= 0).long().repeat(2),
        "grid_size": 0.05,
    }
    if labels:
        data["instance"] = one.repeat(2)
    return data


def step(net, data, progress=0.5, seed=0):
    net.train()
    if progress is not None:
        net.set_progress(progress)
    torch.manual_seed(seed)
    return net(copy.deepcopy(data))


@pytest.mark.parametrize("labels", [True, False])
def test_trains_on_labels_or_on_itself(labels):
    net = model()
    output = step(net, batch(labels))
    assert ("target_share" in output) != labels
    torch.testing.assert_close(
        output["loss"], output["seg_loss"] + 0.25 * output["offset_loss"]
    )
    output["loss"].backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
    assert net.offset_head.mlp[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.offset_teacher.parameters())


def test_without_branch_it_is_the_plain_segmentor():
    net, data = model(None), batch()
    output = step(net, data)
    assert set(output) == {"loss"}
    names = {name.split(".")[0] for name in net.state_dict()}
    assert names == {"backbone", "seg_head"}
    torch.manual_seed(0)
    point = net._features(copy.deepcopy(data))
    logits = net.seg_head(point.feat)
    expected = torch.nn.functional.cross_entropy(logits, data["segment"])
    torch.testing.assert_close(output["loss"], expected)
    assert net.ema_pairs() == []


def test_evaluation_returns_logits_and_the_segmentation_loss():
    net, data = model().eval(), batch()
    output = net(copy.deepcopy(data))
    assert set(output) == {"loss", "seg_logits"}
    assert output["seg_logits"].shape == (len(data["coord"]), 2)
    del data["segment"]
    assert set(net(data, return_point=True)) == {"seg_logits", "point"}


def test_checkpoint_of_the_plain_segmentor_fits():
    plain = model(None).state_dict()
    found = model().load_state_dict(plain, strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith("offset_") for name in found.missing_keys)


def test_exact_offsets_have_no_loss():
    """The head's answer is replaced by the true one."""
    net, data = model(token_size=0.01), batch()
    centroid = torch.stack(
        [
            data["coord"][cloud * 775 + 400 + 125 * box :][:125].mean(0)
            for cloud in range(2)
            for box in range(3)
        ]
    )
    expected = centroid.repeat_interleave(125, 0).view(2, 375, 3)
    true = torch.cat([torch.zeros(2, 400, 3), expected], 1).view(-1, 3)
    _, owner = cell_tokens(data["coord"], data["feat"], data["offset"], 0.01)
    exact = torch.zeros(int(owner.max()) + 1, 3)
    exact[owner] = true - data["coord"]
    net._shift = lambda *_: exact.clone()
    assert step(net, data)["offset_loss"].item() == pytest.approx(0, abs=1e-5)
    # ids may repeat from scene to scene, and centroids may be given
    given = {**data, "instance_centroid": true}
    assert step(net, given)["offset_loss"].item() == pytest.approx(0, abs=1e-5)
    given["instance_centroid"] = true + 0.1
    assert step(net, given)["offset_loss"] > 0.5


def test_points_without_instance_do_not_count():
    net, data = model(), batch()
    centroid = torch.randn(len(data["coord"]), 3)
    first = step(net, {**data, "instance_centroid": centroid})
    centroid[data["instance"] < 0] = 99.0
    again = step(net, {**data, "instance_centroid": centroid})
    torch.testing.assert_close(first["offset_loss"], again["offset_loss"])
    data["instance"][:] = -1
    nothing = step(net, data)
    assert nothing["offset_loss"] == 0
    nothing["loss"].backward()
    assert net.offset_head.mlp[0].weight.grad.abs().sum() == 0


def test_labels_without_an_instance_are_told_once(monkeypatch):
    told = []
    log = SimpleNamespace(warning=told.append)
    monkeypatch.setattr(auxiliary, "get_root_logger", lambda: log)
    step(model(), batch())
    assert not told
    net, data = model(), batch()
    data["instance"][:] = -1
    for _ in range(2):
        step(net, data)
    (line,) = told
    assert 'targets="self"' in line


def test_targets_may_be_its_own_beside_labels():
    net = model(targets="self")
    with_labels, without = step(net, batch()), step(net, batch(labels=False))
    torch.testing.assert_close(with_labels["offset_loss"], without["offset_loss"])


def test_boxes_are_found_without_labels():
    net = model(BRANCH | {"scr": {**BRANCH["scr"], "min_size": 20}})
    with torch.no_grad():
        net.offset_teacher.mlp[2].weight.zero_()
    share = step(net, batch(labels=False))["target_share"]
    assert share.item() == pytest.approx(750 / 1550, abs=0.1)


def test_branch_waits_for_its_warm_up_where_there_is_a_schedule():
    net, data = model(), batch()
    early = step(net, data, progress=0.05)
    torch.testing.assert_close(early["loss"], early["seg_loss"])
    other = model()
    no_hook = step(other, data, progress=None)
    assert no_hook["loss"] > no_hook["seg_loss"]


def test_frozen_backbone_still_learns_offsets():
    net = model(freeze_backbone=True)
    step(net, batch())["loss"].backward()
    assert all(p.grad is None for p in net.backbone.parameters())
    assert net.offset_head.mlp[0].weight.grad.abs().sum() > 0


def test_predicts_an_offset_for_every_point():
    net, data = model(token_size=0.2).eval(), batch()
    output = net.predict_offsets(copy.deepcopy(data))
    assert output["shift"].shape == data["coord"].shape
    centre = output["coord"] + output["shift"]
    assert len(torch.unique((centre * 1e4).round(), dim=0)) < len(centre) / 4


def test_offsets_do_not_depend_on_earlier_draws():
    net = model().eval()
    one, other = (net.predict_offsets(batch())["shift"] for _ in range(2))
    assert torch.equal(one, other)


def test_teacher_head_is_averaged_by_the_model():
    net = model(momentum_base=0.5, momentum_final=0.5)
    net.trainer = SimpleNamespace(
        hooks=[],
        writer=None,
        model=net,
        scheduler=SimpleNamespace(last_epoch=0),
        cfg=SimpleNamespace(scheduler=SimpleNamespace(total_steps=4)),
    )
    net.before_train()
    before = net.offset_teacher.mlp[0].weight.clone()
    with torch.no_grad():
        net.offset_head.mlp[0].weight.add_(1.0)
    net.trainer.scheduler.last_epoch = 1
    net.before_step()
    net.after_step()
    assert net.progress == 0.25
    torch.testing.assert_close(net.offset_teacher.mlp[0].weight, before + 0.5)


def test_refusals_say_what_to_do():
    with pytest.raises(UserError, match="ModelHook"):
        step(model(), batch(labels=False), progress=None)
    with pytest.raises(UserError, match="instance is not there"):
        step(model(targets="labels"), batch(labels=False))
    with pytest.raises(UserError, match="relative_position"):
        model({**BRANCH, "relative_position": True})
    with pytest.raises(UserError, match="targets must be one of"):
        model(targets="label")
    with pytest.raises(UserError, match="no offset branch"):
        model(None).predict_offsets(batch())
    data = batch()
    del data["segment"]
    with pytest.raises(UserError, match="segment is not there"):
        step(model(), data)


def test_what_the_backbone_freezes_stays_frozen():
    """As in the plain segmentor: a decoder probe has a frozen encoder."""
    net = model(backbone={**BACKBONE, "freeze_encoder": True})
    plain = build_model(
        {
            "type": "DefaultSegmentorV2",
            "num_classes": 2,
            "backbone_out_channels": 64,
            "backbone": {**BACKBONE, "freeze_encoder": True},
            "criteria": [{"type": "CrossEntropyLoss"}],
        }
    )
    trained, expected = (
        {name for name, p in each.backbone.named_parameters() if p.requires_grad}
        for each in (net, plain)
    )
    assert trained == expected
    assert len(trained) < len(list(net.backbone.parameters()))
