"""Sonata as a setting of the trunk: its losses, views, masks, keywords and ranks."""

import copy
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_scenes import BACKBONE, PRIOR, batch

from pointins_plugin.errors import UserError
from pointins_plugin.host import HOOKS, build_model, comm, launch
from pointins_plugin.models.objectives import LocalViews, Match, SonataObjective
from pointins_plugin.models.point_ins import Masking
from pointins_plugin.models.tokens import up_cast

BRANCH = {
    "prior": PRIOR,
    "hidden_channels": 32,
    "odr": {"type": "ODRLoss"},
    "scr": {"type": "SCRLoss", "num_segments": 4},
}
SIZES = {"hidden_channels": 32, "embed_channels": 16, "num_prototypes": 24}
FLAT = {
    "head_in_channels": 64,
    "head_hidden_channels": 32,
    "head_embed_channels": 16,
    "head_num_prototypes": 24,
    "num_local_view": 3,
    "mask_jitter": 0.005,
    "momentum_base": 0.9,
    "match_max_k": 8,
    "match_max_r": 0.1,
}


def model(semantic=None, **options):
    torch.manual_seed(0)
    config = {
        "type": "PointINS",
        "backbone": {**BACKBONE, "mask_token": True},
        "semantic": {"type": "SonataObjective", **SIZES, **(semantic or {})},
        "mask_jitter": 0.005,
        "match_max_r": 0.1,
        **options,
    }
    return build_model(config)


def step(net, data, seed=0):
    net.train()
    net.set_progress(0.5)
    torch.manual_seed(seed)
    return net(copy.deepcopy(data))


WEIGHTS = [
    dict(zip(("mask", "roll_mask", "unmask"), on, strict=True))
    for on in itertools.product((0.25, 0.0), (0.5, 0.0), (0.75, 0.0))
    if any(on)
]


@pytest.mark.parametrize("branch", [None, BRANCH], ids=["alone", "branch"])
@pytest.mark.parametrize(
    "weights", WEIGHTS, ids=lambda w: "-".join(k for k in w if w[k])
)
def test_every_choice_of_terms_takes_a_step(weights, branch):
    semantic = {f"{name}_loss_weight": weight for name, weight in weights.items()}
    net = model(semantic, offset_branch=branch)
    output = step(net, batch(num_local=3))
    terms = [name for name, weight in weights.items() if weight]
    assert {f"{name}_loss" for name in terms} <= output.keys()
    torch.testing.assert_close(
        output["semantic_loss"],
        sum(weights[name] * output[f"{name}_loss"] for name in terms),
    )
    assert all(value.dim() == 0 for value in output.values())
    assert all(torch.isfinite(value) for value in output.values())
    output["loss"].backward()
    # every parameter that learns takes part, or several processes would hang
    for name, parameter in net.student.named_parameters():
        idle = name.endswith("mask_token") and not (branch or len(terms) > 1)
        if parameter.requires_grad and not (idle and terms == ["unmask"]):
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all()
    assert all(parameter.grad is None for parameter in net.teacher.parameters())
    assert {"mask_head", "unmask_head"} & set(net.student) == {
        "unmask_head" if name == "unmask" else "mask_head" for name in terms
    }


def sharpened(similarity, temperature):
    """Sinkhorn-Knopp in float64, word by word."""
    plan = torch.exp(similarity.double() / temperature)
    for _ in range(3):
        plan = plan / plan.sum(0) / plan.shape[1]
        plan = plan / plan.sum(1, keepdim=True) / plan.shape[0]
    return plan * plan.shape[0]


def naive_term(student, teacher, pairs, head, teacher_head, temperature):
    """Match by all distances, cloud by cloud, and average the cross-entropies."""
    rows = []
    for cloud, searched in pairs:
        mine = (student.batch == cloud).nonzero()[:, 0]
        theirs = (teacher.batch == searched).nonzero()[:, 0]
        distance = torch.cdist(
            student.origin_coord[mine].double(), teacher.origin_coord[theirs].double()
        )
        found = distance.min(1)
        close = found.values < 0.1
        rows += [(cloud, mine[close], theirs[found.indices[close]])]
    target = sharpened(
        teacher_head(teacher.feat[torch.cat([row[2] for row in rows])]), temperature
    )
    log_p = torch.log_softmax(
        head(student.feat[torch.cat([row[1] for row in rows])]).double() / 0.1, dim=1
    )
    values = -(target * log_p).sum(1)
    parts = values.split([len(row[1]) for row in rows])
    return torch.stack([part.mean() for part in parts]).mean()


def test_losses_are_those_of_a_naive_computation(monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    net, data = model(), batch(num_local=3)
    with torch.no_grad():
        for parameter in net.teacher.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    num = len(data["global_coord"])
    mask = torch.rand(num) < 0.5
    jitter = 0.004 * torch.randn(num, 3) * mask[:, None]
    net.draw_masking = lambda *_: Masking(mask, jitter)
    output = step(net, data)
    temperature = net.semantic.teacher_temp

    def tokens(modules, kind, **changes):
        names = ("coord", "origin_coord", "feat", "offset")
        view = {name: data[f"{kind}_{name}"] for name in names} | changes
        view = net._with_grid({**view, "grid_size": 0.05})
        return up_cast(modules["backbone"](view), 2)[0]

    with torch.no_grad():
        teacher = tokens(net.teacher, "global")
        moved = data["global_coord"] + jitter
        masked = tokens(net.student, "global", coord=moved, mask=mask)
        local = tokens(net.student, "local")
        heads = net.student["mask_head"], net.teacher["mask_head"], temperature
        same = naive_term(masked, teacher, [(i, i) for i in range(4)], *heads)
        roll = naive_term(masked, teacher, [(i, i ^ 1) for i in range(4)], *heads)
        heads = net.student["unmask_head"], net.teacher["unmask_head"], temperature
        major = [(i, i // 3 * 2) for i in range(6)]
        unmask = naive_term(local, teacher, major, *heads)
    expected = {"mask_loss": same, "roll_mask_loss": roll, "unmask_loss": unmask}
    for name, value in expected.items():
        assert output[name].item() == pytest.approx(value.item(), abs=1e-5), name
    total = 0.25 * same + 0.25 * roll + 0.5 * unmask
    assert output["loss"].item() == pytest.approx(total.item(), abs=1e-5)


def test_local_views_look_at_the_first_global_view():
    net, data = model(), batch(num_local=2)
    first = torch.arange(len(data["global_coord"])) < data["global_offset"][0]
    first |= (torch.arange(len(first)) >= data["global_offset"][1]) & (
        torch.arange(len(first)) < data["global_offset"][2]
    )
    for away, expected in ((first, True), (~first, False)):
        moved = copy.deepcopy(data)
        moved["global_origin_coord"][away] += 100
        output = step(net, moved)
        assert (output["unmask_loss"] == 0) == expected
        assert output["roll_mask_loss"] == 0
        assert torch.isfinite(output["loss"])


def test_shared_teacher_head_replaces_the_targets_of_local_views():
    """Only the first of the teacher's heads decides, as in Sonata-v1m2."""
    data = batch(num_local=3)
    for shared, head in ((True, "mask_head"), (False, "unmask_head")):
        net = model({"shared_teacher_head": shared})
        before = step(net, data)["unmask_loss"]
        with torch.no_grad():
            idle = {"mask_head", "unmask_head"} - {head}
            net.teacher[idle.pop()].mlp[2].weight.mul_(-3)
        torch.testing.assert_close(step(net, data)["unmask_loss"], before)
        with torch.no_grad():
            net.teacher[head].mlp[2].weight.mul_(-3)
        assert (step(net, data)["unmask_loss"] - before).abs() > 1e-4


def masking(net, seed=0, progress=0.5):
    data = batch()
    views = net._views(data, "global", 0.05)
    net.set_progress(progress)
    generator = torch.Generator().manual_seed(seed)
    return net.draw_masking(views, 0.05, generator), data


def test_masking_is_drawn_from_its_generator_and_moves_masked_points_only():
    net = model(mask_jitter=0.02)
    (draw, _), (again, _), (other, _) = (masking(net, seed) for seed in (0, 0, 1))
    assert torch.equal(draw.mask, again.mask)
    assert torch.equal(draw.jitter, again.jitter)
    assert not torch.equal(draw.mask, other.mask)
    assert (draw.jitter[~draw.mask] == 0).all()
    moved = draw.jitter[draw.mask]
    assert moved.std().item() == pytest.approx(0.02, rel=0.1)
    assert moved.abs().max() <= 0.04 + 1e-6
    assert masking(model(mask_jitter=None))[0].jitter is None


def test_masking_follows_its_schedules():
    net = model(mask_size_start=0.1, mask_ratio_start=0.2, mask_ratio_base=0.6)
    for progress, ratio in ((0.0, 0.2), (0.05, 0.6), (1.0, 0.6)):
        shares = [
            masking(net, seed, progress)[0].mask.float().mean() for seed in range(8)
        ]
        assert torch.stack(shares).mean().item() == pytest.approx(ratio, abs=0.06)


def test_teacher_temperature_warms_up():
    objective = SonataObjective(**SIZES)
    found = []
    for progress in (0.0, 0.025, 0.05, 1.0):
        objective.set_progress(progress)
        found.append(objective.teacher_temp)
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])


@pytest.mark.parametrize("own", [True, False], ids=["backbone's", "trunk's"])
def test_masked_features_are_replaced_by_a_token(own):
    """The student sees nothing of them, whichever module has the token."""
    net = model(backbone={**BACKBONE, "mask_token": own})
    assert ("mask_token" in net.student) != own
    data = batch(num_local=2)
    views = net._views(data, "global", 0.05)
    mask = torch.rand(len(views["coord"])) < 0.5
    changed = {**views, "feat": views["feat"] + 9 * mask[:, None]}
    found = []
    for seen in (views, changed):
        torch.manual_seed(1)
        masked = net._masked_views(seen, Masking(mask))
        found.append(net._tokens(net.student, masked).point.feat)
    torch.testing.assert_close(*found)
    step(net, data)["loss"].backward()
    name = "backbone.embedding.mask_token" if own else "mask_token.token"
    gradient = dict(net.student.named_parameters())[name].grad
    assert gradient.abs().sum() > 0


def test_one_global_view_is_enough_without_the_rolled_term():
    net = model({"roll_mask_loss_weight": 0.0}, num_global_view=1, offset_branch=BRANCH)
    # the same four clouds, now four scenes with two local views each
    data = {**batch(num_local=4), "name": ["a"] * 4}
    output = step(net, data)
    assert output["offset_cross_loss"] == 0
    torch.testing.assert_close(output["offset_loss"], output["offset_same_loss"])
    with pytest.raises(UserError, match="defined for 2 global views"):
        model(num_global_view=1)


def test_flat_keywords_are_the_objectives():
    """An existing Sonata-v1m1 config, with another type and a branch."""
    backbone = {**BACKBONE, "mask_token": True}
    torch.manual_seed(0)
    flat = build_model(
        {"type": "PointINS", "backbone": backbone, "offset_branch": BRANCH, **FLAT}
    )
    typed = model(offset_branch=BRANCH, num_local_view=3, shared_grid=True)
    data = batch(num_local=3)
    for name, value in step(flat, data).items():
        torch.testing.assert_close(value, step(typed, data)[name])
    defaults = build_model({"type": "PointINS", "backbone": backbone})
    assert defaults.match_max_r == 0.08
    assert defaults.momentum == (0.996, 1.0)
    assert defaults.student["mask_head"].mlp[2].weight.shape == (512, 4096)


def test_parameters_have_sonatas_names():
    names = set(model().state_dict())
    for side, head in itertools.product(("student", "teacher"), ("mask", "unmask")):
        for name in (
            "mlp.0.weight",
            "mlp.0.bias",
            "mlp.2.weight",
            "mlp.2.bias",
            "prototype.parametrizations.weight.original0",
            "prototype.parametrizations.weight.original1",
        ):
            assert f"{side}.{head}_head.{name}" in names
        assert f"{side}.backbone.embedding.mask_token" in names
    assert all(name.split(".")[0] in ("student", "teacher") for name in names)


def test_refusals_say_what_to_do():
    with pytest.raises(
        UserError, match=r"no option 'head_num_prototype' .*mean 'head_"
    ):
        model(semantic=None) and build_model(
            {"type": "PointINS", "backbone": BACKBONE, "head_num_prototype": 3}
        )
    with pytest.raises(UserError, match="no option 'head_hidden_channels'"):
        model(head_hidden_channels=3)
    with pytest.raises(UserError, match="must not be negative and not all be zero"):
        model({f"{name}_loss_weight": 0 for name in ("mask", "roll_mask", "unmask")})
    with pytest.raises(UserError, match=r"local_coord is not there.*local_view_num"):
        step(model(), batch())
    with pytest.raises(UserError, match="6 local views for 2 scenes, expected 4"):
        step(model(num_local_view=4), batch(num_local=3))


class Trainer(SimpleNamespace):
    """What the averaging hook asks of a trainer."""

    def __init__(self, net, *hooks):
        super().__init__(
            model=net,
            hooks=hooks,
            writer=None,
            scheduler=SimpleNamespace(last_epoch=0),
            cfg=SimpleNamespace(scheduler=SimpleNamespace(total_steps=10)),
        )


def test_averages_its_teacher_where_no_hook_does():
    net = model(momentum_base=0.75, momentum_final=0.75)
    net.trainer = trainer = Trainer(net)
    net.before_train()
    with torch.no_grad():
        net.student["mask_head"].mlp[0].weight.add_(1.0)
    before = net.teacher["mask_head"].mlp[0].weight.clone()
    net.after_step()  # a micro-batch: the scheduler did not move
    torch.testing.assert_close(net.teacher["mask_head"].mlp[0].weight, before)
    trainer.scheduler.last_epoch = 1
    net.after_step()
    torch.testing.assert_close(net.teacher["mask_head"].mlp[0].weight, before + 0.25)


def test_leaves_its_teacher_to_a_hook():
    net = model(momentum_base=0.75)
    net.trainer = Trainer(net, HOOKS.build({"type": "EMATeacherHook"}))
    net.before_train()
    net.trainer.scheduler.last_epoch = 1
    before = copy.deepcopy(net.teacher.state_dict())
    with torch.no_grad():
        net.student["mask_head"].mlp[0].weight.add_(1.0)
    net.after_step()
    for name, value in net.teacher.state_dict().items():
        assert torch.equal(value, before[name])


def objective_step(clouds):
    """Losses and gradients of an objective on some of eight clouds of tokens."""
    torch.manual_seed(0)
    objective = SonataObjective(**SIZES)
    objective.set_progress(1.0)
    student = torch.nn.ModuleDict(objective.build_heads(12))
    teacher = torch.nn.ModuleDict(objective.build_heads(12))
    sizes = torch.tensor([30, 5, 12, 40, 8, 21, 17, 26])
    feature, other = torch.randn(2, int(sizes.sum()), 12)
    batch = torch.repeat_interleave(torch.arange(8), sizes)
    mine = torch.isin(batch, torch.tensor(clouds))
    feature, other, batch = feature[mine], other[mine], batch[mine] - clouds[0]
    rows = torch.arange(len(batch))
    same = Match(rows, rows, batch)
    # large clouds match their tokens back to front, so ranks differ in their pairs
    size = torch.bincount(batch)
    mirrored = 2 * (size.cumsum(0) - size)[batch] + size[batch] - 1 - rows
    rolled = rows[size[batch] > 10]
    cross = Match(rolled, mirrored[rolled], batch[rolled])
    local = LocalViews(feature.flip(1), same, len(clouds))
    with torch.no_grad():
        outputs = objective.teacher_outputs(teacher, other)
    losses = objective(student, feature, outputs, same, cross, len(clouds), local)
    losses["semantic_loss"].backward()
    values = {name: value.detach() for name, value in losses.items()}
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            values[name] = parameter.grad
    return values


def ranks_step(folder):
    rank = comm.get_rank()
    values = objective_step(list(range(4 * rank, 4 * rank + 4)))
    means = {name: comm.all_reduce(value, True) for name, value in values.items()}
    if rank == 0:
        torch.save(means, f"{folder}/means.pt")


def test_two_processes_equal_one(tmp_path):
    """The assignment is balanced over all ranks: half a batch each is the batch."""
    launch(ranks_step, 2, cfg=(str(tmp_path),))
    means = torch.load(f"{tmp_path}/means.pt", weights_only=True)
    whole = objective_step(list(range(8)))
    for name, value in whole.items():
        torch.testing.assert_close(means[name], value, rtol=1e-4, atol=1e-6)
