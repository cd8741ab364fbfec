"""PointGroupPanoptic: oracle heads give perfect PQ; losses; what it asks for."""

import numpy as np
import pytest
import torch

from pointins_plugin.datasets.street_layout import CLASSES, STUFF, THINGS
from pointins_plugin.datasets.streets import make_street
from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.panoptic_quality import PanopticQuality
from pointins_plugin.host import build_model

STUFF_CLASSES = (-1, *(CLASSES.index(name) for name in STUFF))
SMALL = dict(
    type="PointGroupPanoptic",
    backbone=dict(
        type="PT-v3m2",
        in_channels=4,
        order=("z", "hilbert"),
        stride=(2,),
        enc_depths=(1, 1),
        enc_channels=(8, 8),
        enc_num_head=(1, 1),
        enc_patch_size=(16, 16),
        mlp_ratio=1,
        drop_path=0.0,
        enable_flash=False,
        traceable=True,
        enc_mode=True,
    ),
    backbone_out_channels=16,
    semantic_num_classes=len(CLASSES),
    segment_ignore_index=STUFF_CLASSES,
)


def batch(n=400, seed=0):
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(n, 3, generator=rng) * 4
    segment = torch.randint(0, len(CLASSES), (n,), generator=rng)
    instance = torch.randint(0, 5, (n,), generator=rng)
    instance[segment >= len(THINGS)] = -1
    return {
        "coord": coord,
        "grid_coord": (coord / 0.1).long(),
        "feat": torch.rand(n, 4, generator=rng),
        "offset": torch.tensor([n // 2, n]),
        "segment": segment,
        "instance": instance,
        "instance_centroid": torch.rand(n, 3, generator=rng),
    }


def build(**options):
    torch.manual_seed(0)
    return build_model({**SMALL, **options})


def test_true_heads_give_perfect_panoptic_quality():
    street = make_street("val", 0, beams=32)
    coord = torch.from_numpy(street["coord"])
    segment, instance = street["segment"], street["instance"]
    centre = coord.clone()
    for number in range(instance.max() + 1):
        inside = torch.from_numpy(instance == number)
        centre[inside] = coord[inside].mean(0)
    logits = torch.zeros(len(coord), len(CLASSES))
    logits[torch.arange(len(coord)), torch.from_numpy(segment).long()] = 9.0
    model = build(radius=0.1, min_points=5)
    given = {"coord": coord, "offset": torch.tensor([len(coord)])}
    found = model.segments(centre - coord, logits, given)
    things = [CLASSES.index(name) for name in THINGS]
    score = PanopticQuality(len(CLASSES), min_points=5, things=things)
    score.update(
        found["pred_segment"].numpy(),
        found["pred_instance"].numpy() + 1,
        segment,
        instance + 1,
    )
    result = score.compute()
    present = np.unique(segment)
    assert len(present) > 8
    # things seen by fewer than five points have no instance, and no segment counts
    np.testing.assert_allclose(result["per_class"][:3, present], 1)


def test_training_and_evaluation():
    model = build()
    given = batch()
    out = model(dict(given))
    parts = out["seg_loss"] + out["bias_l1_loss"] + out["bias_cosine_loss"]
    assert out["loss"].item() == pytest.approx(parts.item())
    out["loss"].backward()
    assert all(p.grad is not None for p in model.bias_head.parameters())
    assert any(p.grad is not None for p in model.backbone.parameters())
    assert "pred_segment" not in out
    model.eval()
    with torch.no_grad():
        out = model(dict(given))
    assert out["pred_segment"].shape == out["pred_instance"].shape == (400,)
    assert torch.isfinite(out["loss"])
    assert len(out["pred_classes"]) == out["pred_instance"].max() + 1
    unlabelled = {k: v for k, v in given.items() if not k.startswith(("seg", "inst"))}
    with torch.no_grad():
        again = model(unlabelled)
    assert "loss" not in again
    assert torch.equal(again["pred_instance"], out["pred_instance"])


def test_weight_of_the_bias_losses():
    given = batch()
    one, none = build()(dict(given)), build(bias_loss_weight=0.0)(dict(given))
    assert none["loss"].item() == pytest.approx(one["seg_loss"].item(), rel=1e-5)


def test_a_batch_without_things_is_finite():
    given = batch()
    given["segment"][:] = CLASSES.index("road")
    given["instance"][:] = -1
    model = build()
    out = model(given)
    out["loss"].backward()
    assert out["bias_l1_loss"] == 0
    assert all(torch.isfinite(p.grad).all() for p in model.bias_head.parameters())


def test_a_frozen_backbone_stays():
    model = build(freeze_backbone=True)
    model(batch())["loss"].backward()
    assert all(p.grad is None for p in model.backbone.parameters())


def test_smoothing_closes_gaps():
    coord = torch.arange(20.0)[:, None] * torch.tensor([0.1, 0, 0])
    jump = torch.where(torch.arange(20) % 2 == 0, 0.4, -0.4)
    bias = torch.tensor([1.0, 0, 0]) - coord
    bias[:, 1] = jump
    logits = torch.zeros(20, len(CLASSES))
    logits[:, 0] = 5
    given = {"coord": coord, "offset": torch.tensor([20])}
    rough = build(radius=0.3, min_points=1).segments(bias, logits, given)
    smooth = build(
        radius=0.3, min_points=1, smoothing=dict(rounds=2, num_neighbours=4)
    ).segments(bias, logits, given)
    assert rough["pred_instance"].max() == 1
    assert smooth["pred_instance"].max() == 0


def test_mistakes_are_named():
    with pytest.raises(UserError, match="grouping='bfs'"):
        build(grouping="bfs")
    with pytest.raises(UserError, match="radius=0 m"):
        build(radius=0)
    given = batch()
    del given["instance"]
    with pytest.raises(UserError, match="no 'instance'"):
        build()(given)
