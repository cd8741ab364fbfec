"""The trunk: what it returns, what it refuses, and what leaves it unchanged."""

import copy
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_scenes import BACKBONE, PRIOR, batch, scene, views

from pointins_plugin.errors import UserError
from pointins_plugin.host import build_model
from pointins_plugin.models import offset_branch
from pointins_plugin.models.tokens import up_cast

SPATIAL = {
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
PAPER = {"odr": {"type": "ODRLoss"}, "scr": {"type": "SCRLoss", "num_segments": 4}}


def model(branch=SPATIAL, **options):
    torch.manual_seed(0)
    if branch is not None:
        branch = {"prior": PRIOR, "hidden_channels": 32, "warmup_ratio": 0.1, **branch}
    config = {
        "type": "PointINS",
        "backbone": BACKBONE,
        "semantic": {
            "type": "DOSObjective",
            "hidden_channels": 32,
            "embed_channels": 16,
            "num_prototypes": 24,
        },
        "offset_branch": branch,
        "up_cast_level": 2,
        "match_max_r": 0.1,
        **options,
    }
    return build_model(config)


def plain():
    """Two clouds as they are evaluated, without views."""
    points = scene(0)
    return {
        "coord": points,
        "feat": torch.cat([points, points], 1),
        "offset": torch.tensor([400, len(points)]),
        "grid_size": 0.05,
    }


def step(net, data, progress=0.5, seed=0):
    net.train()
    net.set_progress(progress)
    torch.manual_seed(seed)
    return net(copy.deepcopy(data))


ROWS = {
    "dos": None,
    "offset": {},
    "odr": {"odr": PAPER["odr"]},
    "scr": {"scr": PAPER["scr"]},
    "paper": PAPER,
    "spatial": SPATIAL,
    "scr before odr": {**PAPER, "order": ("scr", "odr")},
    "odr on the student": {**PAPER, "odr": {"type": "ODRLoss", "mode": "distribution"}},
    "consistency": {"scr": {**PAPER["scr"], "mode": "consistency"}},
    "relative": {**SPATIAL, "relative_position": True},
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_component_table_takes_a_step(row):
    net = model(ROWS[row])
    output = step(net, batch())
    assert all(
        torch.isfinite(value).all() and value.dim() == 0 for value in output.values()
    )
    output["loss"].backward()
    assert all(
        torch.isfinite(p.grad).all()
        for p in net.student.parameters()
        if p.grad is not None
    )
    assert net.student["backbone"].embedding.stem.linear.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.teacher.parameters())
    if ROWS[row] is None:
        assert "offset_loss" not in output
    else:
        assert net.student["offset_head"].mlp[0].weight.grad.abs().sum() > 0


def test_branch_does_not_count_before_its_warm_up():
    net = model()
    early, late = (step(net, batch(), progress) for progress in (0.05, 0.5))
    torch.testing.assert_close(early["loss"], early["semantic_loss"])
    expected = late["semantic_loss"] + 0.25 * late["offset_loss"]
    torch.testing.assert_close(late["loss"], expected)
    assert early.keys() == late.keys()


def test_same_seed_same_loss():
    net = model()
    assert step(net, batch(), seed=3)["loss"] == step(net, batch(), seed=3)["loss"]
    assert step(net, batch(), seed=3)["loss"] != step(net, batch(), seed=4)["loss"]


def test_unrecorded_matrix_is_recovered():
    net, data = model(), batch()
    tracked = step(net, data)
    del data["global_affine"]
    recovered = step(net, data)
    for name, value in tracked.items():
        torch.testing.assert_close(recovered[name], value, atol=1e-4, rtol=1e-3)


def test_matrix_matters():
    """Were offsets not carried to the origin frame, a wrong matrix would not show."""
    net, data = model(PAPER), batch()
    right = step(net, data)
    data["global_affine"] = torch.eye(4).double().repeat(4, 1, 1)
    assert (step(net, data)["offset_loss"] - right["offset_loss"]).abs() > 1e-4


def test_nothing_in_common_is_finite():
    """Views that do not overlap match nothing across; all keys stay."""
    net, data = model(), batch(1)
    full = step(net, data)
    data["global_origin_coord"][data["global_offset"][0] :] += 100
    apart = step(net, data)
    assert apart.keys() == full.keys()
    assert apart["cross_view_loss"] == 0
    assert apart["offset_cross_loss"] == 0
    assert torch.isfinite(apart["loss"])


def test_targets_find_the_boxes():
    net = model()
    with torch.no_grad():
        net.teacher["offset_head"].mlp[2].weight.zero_()
    output = step(net, batch())
    # three boxes in each of the views, the floor is a plane
    assert output["pseudo_instances"] == pytest.approx(3)
    target = net.latest["target"]
    assert 0.4 < float(output["target_share"]) < 0.6
    assert target.shift[target.mask].norm(dim=1).max() < 0.25


def test_predicts_an_offset_for_every_point():
    net, data = model(up_cast_level=1), plain()
    points = data["coord"]
    net.eval()
    output = net.predict_offsets(data)
    assert output["shift"].shape == points.shape
    assert output["feat"].shape[0] == len(points)
    # the points of a token share its centre
    centre = output["coord"] + output["shift"]
    assert len(torch.unique((centre * 1e4).round(), dim=0)) < len(points) / 2
    with pytest.raises(UserError, match="no offset branch"):
        model(None).predict_offsets(data)
    del data["grid_size"]
    with pytest.raises(UserError, match="neither grid_coord nor grid_size"):
        net.predict_offsets(data)


def test_return_point_gives_the_teachers_tokens():
    net = model()
    points = scene(0)
    data = {
        "coord": points,
        "feat": torch.cat([points, points], 1),
        "offset": torch.tensor([len(points)]),
        "grid_size": 0.05,
    }
    net.eval()
    torch.manual_seed(1)
    point = net(data, return_point=True)["point"]
    torch.manual_seed(1)
    expected, _ = up_cast(net.teacher["backbone"](dict(data)), 2)
    torch.testing.assert_close(point.feat, expected.feat)


def test_teacher_stays_in_evaluation_mode():
    net = model()
    net.train()
    assert net.student.training
    assert not net.teacher.training


def test_checkpoint_names_are_those_downstream_configs_use():
    names = model().state_dict()
    assert "student.backbone.embedding.stem.linear.weight" in names
    assert "teacher.backbone.enc.enc0.block0.attn.qkv.weight" in names
    assert "offset_branch.prior.magnitude_prior" in names


def test_refusals_say_what_to_do():
    with pytest.raises(UserError, match="ModelHook"):
        model().train()(batch())
    net = model()
    net.trainer = SimpleNamespace(hooks=[])
    with pytest.raises(UserError, match="EMATeacherHook"):
        net.before_train()
    with pytest.raises(UserError, match="num_global_view=3"):
        model(num_global_view=3)
    with pytest.raises(UserError, match="up_cast_level must be from 0 to 2"):
        model(up_cast_level=5)


def test_views_of_other_scenes_are_never_paired():
    net = model()
    three = views("global", [(scene(k), 0, 1.0) for k in range(3)])
    rest = {"grid_size": torch.tensor([0.05])}
    with pytest.raises(UserError, match=r"3 global views, but.*num_global_view=2"):
        step(net, {**three, **rest})
    with pytest.raises(UserError, match=r"4 global views of 1 scenes, but"):
        step(net, {**batch(), "name": ["a"]})
    step(net, {**batch(), "name": "not a list"})


def test_a_branch_that_is_off_cannot_break_the_step():
    net, data = model(), batch()
    data["global_affine"][0, 0, 0] = float("nan")
    output = step(net, data, 0.05)
    assert torch.isfinite(output["loss"])
    output["loss"].backward()
    gradients = [p.grad for p in net.student["offset_head"].parameters()]
    assert all((gradient == 0).all() for gradient in gradients)  # none is missing
    assert not torch.isfinite(step(net, data, 0.5)["loss"])


def test_nothing_of_the_last_step_is_held_in_the_next():
    net = model()
    step(net, batch())
    held = weakref.ref(net.latest["teacher_outputs"])
    seen = []
    outputs = net.semantic.teacher_outputs
    net.semantic.teacher_outputs = lambda *words: (
        seen.append(held() is None) or outputs(*words)
    )
    step(net, batch())
    assert seen == [True]


def test_predicted_offsets_do_not_hang_on_what_was_drawn_before():
    data = plain()
    net = model(backbone={**BACKBONE, "shuffle_orders": True}).eval()
    first = net.predict_offsets(copy.deepcopy(data))["shift"]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(first, net.predict_offsets(copy.deepcopy(data))["shift"])
    assert torch.equal(state, torch.get_rng_state())


def test_neighbours_of_scr_are_the_branchs():
    with pytest.raises(UserError, match="move it to offset_branch"):
        model({**SPATIAL, "scr": {**SPATIAL["scr"], "num_neighbours": 8}})


def test_planes_are_left_out_where_scr_says_so():
    scr = {**SPATIAL["scr"], "exclude_planes": False}
    with pytest.raises(UserError, match=r"move it to offset_branch\.scr"):
        model({**SPATIAL, "scr": scr, "exclude_planes": True})
    alone = model({**SPATIAL, "scr": None, "exclude_planes": True})
    assert alone.offset_branch.exclude_planes


def test_a_prior_that_the_checkpoint_replaces_is_told(monkeypatch):
    told = []
    log = SimpleNamespace(warning=told.append)
    monkeypatch.setattr(offset_branch, "get_root_logger", lambda: log)
    trained, again = model(SPATIAL), model(SPATIAL)
    again.load_state_dict(trained.state_dict())
    assert not told
    fitted = {"type": "log_normal", "median": 4.5, "sigma": 0.5}
    other = model({**SPATIAL, "prior": fitted})
    for _ in range(2):
        other.load_state_dict(trained.state_dict())
    (line,) = told
    assert f"median {trained.offset_branch.unit:.3g} m" in line
    assert "median 4.5 m" in line


@pytest.mark.parametrize("prefix", ["", "module."])
def test_without_a_teacher_it_starts_as_the_student(prefix):
    net = model()
    given = {
        f"{prefix}student.{name}": torch.full_like(value, 7)
        for name, value in net.student.state_dict().items()
        if name.startswith("backbone.")
    }
    whole = torch.nn.ModuleDict({"module": net}) if prefix else net
    missing, unexpected = whole.load_state_dict(given, strict=False)
    assert not unexpected
    assert not any("backbone." in key for key in missing)
    assert all((v == 7).all() for v in net.teacher["backbone"].state_dict().values())
    with pytest.raises(RuntimeError, match="Missing key"):
        whole.load_state_dict(given)
    # a teacher that is there is taken as it is
    given[f"{prefix}teacher.offset_head.mlp.0.bias"] = torch.ones(32)
    before = copy.deepcopy(net.teacher["backbone"].state_dict())
    whole.load_state_dict(
        {key: value * 2 for key, value in given.items()}, strict=False
    )
    after = net.teacher["backbone"].state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
