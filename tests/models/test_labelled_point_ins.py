"""PointINS whose targets come from labels."""

import copy
import inspect
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_scenes import BACKBONE, PRIOR, batch

from pointins_plugin.errors import UserError
from pointins_plugin.host import MODELS, Point, build_model
from pointins_plugin.models.point_ins import token_labels


def model(kind="LabelledPointINS", **branch):
    torch.manual_seed(0)
    return build_model(
        {
            "type": kind,
            "backbone": BACKBONE,
            "semantic": {
                "type": "DOSObjective",
                "hidden_channels": 32,
                "embed_channels": 16,
                "num_prototypes": 24,
            },
            "offset_branch": {
                "prior": PRIOR,
                "hidden_channels": 32,
                "loss_weight": 1.0,
                "relative_position": True,
                **branch,
            },
            "up_cast_level": 2,
            "match_max_r": 0.1,
        }
    )


def labelled(data):
    """Give the three boxes of every view their numbers: 400 floor, 125 a box."""
    ends = [0, *data["global_offset"].tolist()]
    instance = torch.cat(
        [
            torch.cat([torch.full((400,), -1), torch.arange(3).repeat_interleave(125)])
            for _ in ends[1:]
        ]
    )
    origin = data["global_origin_coord"]
    centroid = torch.zeros_like(origin)
    for start, end in pairwise(ends):
        for number in range(3):
            rows = torch.arange(start, end)[instance[start:end] == number]
            centroid[rows] = origin[rows].mean(0)
    labels = {"global_instance": instance, "global_instance_centroid": centroid}
    return {**data, **labels}


def step(net, data, seed=0):
    net.train()
    net.set_progress(0.5)
    torch.manual_seed(seed)
    return net(copy.deepcopy(data))


def test_targets_are_the_true_offsets_of_things():
    net, data = model(), labelled(batch(1))
    output = step(net, data)
    target, latest = net.latest["target"], net.latest
    thing = latest["true_instance"] >= 0
    torch.testing.assert_close(target.mask, thing)
    end = latest["teacher_coord"][thing] + target.shift[thing]
    centroids = data["global_instance_centroid"].unique(dim=0)
    # Subtracted: by products, as of many rows, cdist is off by more on some processors.
    between = torch.cdist(end, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    assert between.min(1).values.max() < 1e-4
    assert output["target_share"] == thing.float().mean()


def test_instances_of_different_views_are_different():
    net = model()
    output = step(net, labelled(batch(2)))
    target, latest = net.latest["target"], net.latest
    views = latest["teacher_batch"][target.mask]
    pairs = torch.stack([target.label[target.mask], views], 1).unique(dim=0)
    assert len(pairs) == len(pairs[:, 0].unique()) == 4 * 3
    assert output["pseudo_instances"] == 3
    assert (target.label[~target.mask] == -1).all()


def test_it_learns_what_self_distillation_has_no_target_for():
    net, data = model(), labelled(batch(1))
    optimizer = torch.optim.AdamW(net.student.parameters(), lr=0.005)
    losses = []
    for seed in range(25):
        output = step(net, data, seed)
        optimizer.zero_grad()
        output["loss"].backward()
        optimizer.step()
        losses.append(float(output["offset_loss"].detach()))
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])


def test_views_without_a_thing_are_finite():
    data = labelled(batch(1))
    data["global_instance"][:] = -1
    output = step(model(), data)
    assert all(torch.isfinite(value).all() for value in output.values())
    assert output["offset_loss"] == 0
    assert output["pseudo_instances"] == 0


def test_its_options_are_those_of_point_ins():
    """What a checkpoint's config leaves out is read from them."""
    labelled, plain = (
        inspect.signature(MODELS.get(kind)) for kind in ("LabelledPointINS", "PointINS")
    )
    assert labelled == plain


def test_its_checkpoint_is_that_of_point_ins():
    assert model().state_dict().keys() == model("PointINS").state_dict().keys()


@pytest.mark.parametrize(
    "loss",
    [
        {"odr": {"type": "ODRLoss", "mode": "distribution"}},
        {"scr": {"type": "SCRLoss", "mode": "consistency"}},
    ],
)
def test_modes_that_act_on_the_student_are_refused(loss):
    ((name, options),) = loss.items()
    with pytest.raises(UserError, match=f"{name}.mode='{options['mode']}' would act"):
        model(**loss)


def test_labels_are_needed():
    with pytest.raises(UserError, match="global_instance_centroid is not there"):
        step(model(), batch(1))


def test_a_token_takes_both_labels_of_one_point():
    """Of the last of its points, on any device."""
    data = {
        "global_instance": torch.tensor([3, 5, 5, -1]),
        "global_instance_centroid": torch.tensor(
            [[3.0, 0, 0], [5.0, 0, 0], [5.0, 0, 0], [0.0, 0, 0]]
        ),
    }
    tokens = Point(
        coord=torch.zeros(2, 3),
        origin_coord=torch.ones(2, 3),
        feat=torch.zeros(2, 1),
        offset=torch.tensor([2]),
        pooling_inverse=torch.tensor([1, 0, 1, 0]),
        pooling_parent=Point(coord=torch.zeros(4, 3), offset=torch.tensor([4])),
    )
    found = token_labels(data, tokens)
    assert found["true_instance"].tolist() == [-1, 5]
    assert found["true_shift"].tolist() == [[-1, -1, -1], [4, -1, -1]]
