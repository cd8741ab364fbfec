"""Two processes equal one with the concatenated batch: losses, and a whole step."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "models"))
from toy_scenes import BACKBONE, PRIOR, batch

from pointins_plugin.hooks.ema_teacher import update_teacher
from pointins_plugin.host import LOSSES, MODELS, build_model, comm, launch
from pointins_plugin.host.standalone.sync_norm import synchronize_batch_norm
from pointins_plugin.losses import scr
from pointins_plugin.losses.offset import mean_per_cloud
from pointins_plugin.losses.prototype import prototype_target
from pointins_plugin.losses.softmap import softmap_loss, softmap_target
from pointins_plugin.models.point_ins import Masking
from pointins_plugin.ops.gather import first_generator, gather_rows
from pointins_plugin.ops.kmeans import kmeans
from pointins_plugin.priors import PriorBuffer, build_prior

CLOUDS, POINTS = 4, 60
TIMEOUT = timedelta(seconds=180)


def my_clouds():
    """Return the clouds of this rank: all of them, or half."""
    world, rank = comm.get_world_size(), comm.get_rank()
    return range(CLOUDS * rank // world, CLOUDS * (rank + 1) // world)


def rows(values):
    """Return this rank's rows of values given for all clouds."""
    clouds = my_clouds()
    return values[clouds.start * POINTS : clouds.stop * POINTS]


def odr(**options):
    prior = PriorBuffer(build_prior(PRIOR))

    def loss(student, batch, num_clouds, generator, teacher):
        module = LOSSES.build({"type": "ODRLoss", **options})
        return module(student, teacher, batch, num_clouds, prior, generator)

    return loss


def offset_loss(student, batch, num_clouds, generator, teacher):
    loss = LOSSES.build({"type": "OffsetLoss"})
    mask = teacher[:, 0] > 0
    return loss(student, teacher, mask, batch=batch, num_clouds=num_clouds, unit=0.2)


def scr_target(student, batch, num_clouds, generator, teacher):
    """Pseudo-instances of the teacher, and the distance to their centres."""
    loss = LOSSES.build({"type": "SCRLoss", "segments": "none", "min_size": 2})
    coord, offset = centres(batch, num_clouds)
    label = loss.pseudo_instances(
        coord, teacher, offset, pitch=0.05, unit=0.2, generator=generator
    )
    shift, mask = loss.targets(coord, label, teacher, None)
    distance = (student - shift).square().sum(1) * mask
    return mean_per_cloud(distance, batch, num_clouds)


def scr_consistency(student, batch, num_clouds, generator, teacher):
    loss = LOSSES.build({"type": "SCRLoss", "mode": "consistency"})
    coord, _ = centres(batch, num_clouds)
    label = torch.arange(len(student)) % 3 + 3 * batch
    return loss(student, coord, label, batch=batch, num_clouds=num_clouds, unit=0.2)


def centres(batch, num_clouds):
    """Return the same coordinates for every cloud, and the cumulative counts."""
    generator = torch.Generator().manual_seed(3)
    coord = torch.rand(POINTS, 3, generator=generator)
    offset = torch.bincount(batch, minlength=num_clouds).cumsum(0)
    return coord.repeat(num_clouds, 1)[: len(batch)], offset


def softmap(scope):
    def loss(student, batch, num_clouds, generator, teacher):
        options = dict(temperature=0.07, alpha=1.3, num_iters=20, scope=scope)
        with torch.no_grad():
            target = softmap_target(teacher, batch, num_clouds, **options)
        return softmap_loss(target, student, batch, num_clouds, temperature=0.1)

    return loss


def prototypes(student, batch, num_clouds, generator, teacher):
    with torch.no_grad():
        target = prototype_target(teacher, temperature=0.07)
    entropy = -(target * (student / 0.1).log_softmax(-1)).sum(-1)
    return mean_per_cloud(entropy, batch, num_clouds)


def contrast(kind, **options):
    def loss(student, batch, num_clouds, generator, teacher):
        """Clouds have different numbers of matches, some points have two."""
        cloud = batch + my_clouds().start
        place = torch.arange(len(batch))
        near = place[place % POINTS % (cloud + 2) == 0]
        twice = place[place % POINTS % (cloud + 5) == 1]
        pairs = torch.cat([near, twice, twice]).repeat(2, 1).T.clone()
        pairs[-len(twice) :, 1] -= 1
        pairs = pairs[pairs[:, 0].argsort(stable=True)]  # by cloud
        module = LOSSES.build({"type": kind, **options})
        return module(student, teacher + 0.3 * student, pairs, generator)

    return loss


CASES = {
    "odr target": odr(direction="axis"),
    "odr target, batch": odr(direction="axis", scope="batch"),
    "odr target, rotation, batch": odr(direction="random_rotation", scope="batch"),
    "odr distribution": odr(mode="distribution", direction="none"),
    "odr distribution, batch": odr(mode="distribution", scope="batch"),
    "offset": offset_loss,
    "scr target": scr_target,
    "scr consistency": scr_consistency,
    "softmap, cloud": softmap("cloud"),
    "softmap, batch": softmap("batch"),
    "prototypes": prototypes,
    "contrast, nce": contrast("PointInfoNCELoss", num_pairs=40),
    "contrast, hardest": contrast(
        "HardestContrastiveLoss", num_pairs=40, num_negatives=90
    ),
    "contrast, hardest, all": contrast(
        "HardestContrastiveLoss", num_pairs=None, num_negatives=None
    ),
}
# the functions of these are among the cases
TRIED = {
    "ODRLoss",
    "SCRLoss",
    "OffsetLoss",
    "PointInfoNCELoss",
    "HardestContrastiveLoss",
}


def loss_and_gradient(folder):
    """Write the mean over ranks of every loss and of a parameter's gradient."""
    values = {}
    for name, case in CASES.items():
        draw = torch.Generator().manual_seed(1)
        data = torch.randn(CLOUDS * POINTS, 3, generator=draw) * 0.3
        teacher = rows(torch.randn(CLOUDS * POINTS, 3, generator=draw) * 0.3)
        weight = nn.Parameter(torch.eye(3) + 0.1 * torch.ones(3, 3))
        num_clouds = len(my_clouds())
        index = torch.arange(num_clouds).repeat_interleave(POINTS)
        generator = torch.Generator().manual_seed(2)
        loss = case(rows(data) @ weight, index, num_clouds, generator, teacher)
        loss.backward()
        for key, value in (("loss", loss.detach()), ("gradient", weight.grad)):
            if comm.get_world_size() > 1:
                dist.all_reduce(value)
            values[f"{name}: {key}"] = value / comm.get_world_size()
    if comm.is_main_process():
        torch.save(values, f"{folder}/{comm.get_world_size()}.pt")


def test_every_loss(tmp_path):
    ours = {
        name
        for name, kind in LOSSES.module_dict.items()
        if kind.__module__.startswith("pointins_plugin.losses")
    }
    assert ours == TRIED
    for processes in (1, 2):
        launch(loss_and_gradient, processes, cfg=(str(tmp_path),), timeout=TIMEOUT)
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.abs().max() > 0, name
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5, msg=name)


def gather(folder):
    """Ranks of 0, 3 and 6 rows join, each knows its own, generators draw the same."""
    rank = comm.get_rank()
    for dtype in (torch.float32, torch.bfloat16):  # of which a third has few digits
        own = torch.full((3 * rank, 2), rank / 3, dtype=dtype, requires_grad=True)
        joined, place = gather_rows(own)
        assert joined.shape == (9, 2)
        assert place == (slice(0, 0), slice(0, 3), slice(3, 9))[rank]
        assert torch.equal(
            joined[:, 0], torch.tensor([1] * 3 + [2] * 6, dtype=dtype) / 3
        )
        joined.sum().backward()
        assert (own.grad == 3).all()
    mine = torch.Generator().manual_seed(rank)
    draws = [torch.rand(8, generator=first_generator(mine, own.device)) for _ in "ab"]
    # Those of one process with rank 0's generator, one after the other.
    alone = torch.rand(16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(draws), alone)
    torch.save(draws, f"{folder}/{rank}.pt")


def test_gathered_rows_and_shared_draws(tmp_path):
    launch(gather, 3, cfg=(str(tmp_path),), timeout=TIMEOUT)
    one, *others = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in "012")
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


BRANCH = {
    "prior": PRIOR,
    "hidden_channels": 16,
    "warmup_ratio": 0.0,
    "loss_weight": 1.0,
    "odr": {"type": "ODRLoss", "direction": "axis"},
    "scr": {"type": "SCRLoss", "segments": "none", "graph": "spatial", "min_size": 4},
}
SIZES = {"hidden_channels": 16, "embed_channels": 8, "num_prototypes": 12}
PAPER = {**BRANCH, "scr": {"type": "SCRLoss"}}
WHOLE_BATCH = {
    **BRANCH,
    "odr": {"type": "ODRLoss", "scope": "batch", "direction": "random_rotation"},
}
DOS = {"type": "DOSObjective", **SIZES}
SONATA = {"type": "SonataObjective", **SIZES}
CONTRAST = {
    "type": "ContrastObjective",
    "loss": {"type": "PointInfoNCELoss", "num_pairs": None},
    "embed_channels": 8,
}
TRANSFORMER = {
    **BACKBONE,
    "shuffle_orders": False,
    # As in Pointcept, patches shrink to the smallest cloud of a batch, and Hilbert's
    # curve turns with its largest extent.
    "enc_patch_size": (2, 2, 2),
    "order": ("z", "z-trans"),
}
CONVOLUTIONS = {
    "type": "SpUNet-v1m1",
    "in_channels": 6,
    "num_classes": 0,
    "base_channels": 8,
    "channels": (8, 16, 16, 8),
    "layers": (1, 1, 1, 1),
}
STEPS = {
    "dos, branch": (DOS, BRANCH, TRANSFORMER),
    "dos, paper": (DOS, PAPER, TRANSFORMER),
    "dos, odr over the batch": (DOS, WHOLE_BATCH, TRANSFORMER),
    "dos": (DOS, None, TRANSFORMER),
    "dos by cloud, branch": ({**DOS, "scope": "cloud"}, BRANCH, TRANSFORMER),
    "dos, branch, convolutions": (DOS, BRANCH, CONVOLUTIONS),
    "sonata, branch": (SONATA, BRANCH, TRANSFORMER),
    "sonata": (SONATA, None, TRANSFORMER),
    "contrast, branch": (CONTRAST, BRANCH, TRANSFORMER),
}


def draws_of_clouds(model):
    """Let masks and k-means depend on each cloud alone, not on the order of draws."""
    scr.kmeans = lambda feature, number, generator: kmeans(
        feature, number, generator=torch.Generator().manual_seed(0)
    )
    draw = model.draw_masking

    def masking(views, pitch, generator=None):
        counts = torch.diff(views["offset"], prepend=torch.zeros(1, dtype=torch.long))
        parts = {
            key: views[key].split(counts.tolist()) for key in ("coord", "grid_coord")
        }
        masks = []
        for coord, grid in zip(*parts.values(), strict=True):
            own = torch.Generator().manual_seed(int(coord.double().sum() * 1e4))
            cloud = {"coord": coord, "grid_coord": grid}
            cloud["offset"] = torch.tensor([len(coord)])
            masks.append(draw(cloud, pitch, own).mask)
        return Masking(torch.cat(masks))

    model.draw_masking = masking


def scenes_of(data, clouds, kind, views):
    """Return the views of some scenes of a batch."""
    ends = data[f"{kind}_offset"].tolist()
    first, last = clouds.start * views, clouds.stop * views
    begin = ends[first - 1] if first else 0
    part = {}
    for key in ("coord", "origin_coord", "feat"):
        part[f"{kind}_{key}"] = data[f"{kind}_{key}"][begin : ends[last - 1]]
    part[f"{kind}_offset"] = data[f"{kind}_offset"][first:last] - begin
    part[f"{kind}_affine"] = data[f"{kind}_affine"][first:last]
    return part


def whole_step(folder):
    """Write the weights of student and teacher after one optimizer step."""
    for name, (semantic, branch, backbone) in STEPS.items():
        torch.manual_seed(0)
        sparse = backbone is CONVOLUTIONS
        local = 2 * (semantic is SONATA)
        if local:
            backbone = {**backbone, "mask_token": True}
        model = build_model(
            {
                "type": "PointINS",
                "backbone": backbone,
                "semantic": semantic,
                "offset_branch": branch,
                "head_in_channels": 8 if sparse else None,
                "up_cast_level": 0 if sparse else 2,
                "mask_size_base": 0.2,
                "match_max_r": 0.1,
            }
        ).train()
        model.set_progress(0.5)
        draws_of_clouds(model)
        data = batch(CLOUDS, seed=5, num_local=local)
        part = scenes_of(data, my_clouds(), "global", 2)
        if local:
            part.update(scenes_of(data, my_clouds(), "local", local))
        # convolutions take one point a cell
        part["grid_size"] = torch.tensor([0.02]) if sparse else data["grid_size"]
        wrapped = model
        if comm.get_world_size() > 1:
            model = synchronize_batch_norm(model, torch.device("cpu"))
            wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.student.parameters(), lr=1.0)
        torch.manual_seed(1)
        output = wrapped(part)
        assert output["loss"].isfinite()
        output["loss"].backward()
        # cosines of tiny offsets have huge gradients: clipped, as in every config
        nn.utils.clip_grad_norm_(model.student.parameters(), 3.0)
        optimizer.step()
        for student, teacher in model.ema_pairs():
            update_teacher(student, teacher, 0.7)
        if comm.is_main_process():
            file = f"{folder}/{name} {comm.get_world_size()}.pt"
            torch.save(model.state_dict(), file)


def test_whole_step_of_pointins(tmp_path, monkeypatch):
    objectives = {name for name in MODELS.module_dict if name.endswith("Objective")}
    assert objectives == {semantic["type"] for semantic, *_ in STEPS.values()}
    monkeypatch.setattr(scr, "kmeans", kmeans)  # put back what a step replaces
    for processes in (1, 2):
        launch(whole_step, processes, cfg=(str(tmp_path),), timeout=TIMEOUT)
    for name in STEPS:
        one, two = (
            torch.load(tmp_path / f"{name} {n}.pt", weights_only=True) for n in (1, 2)
        )
        for key, value in one.items():
            error = float((two[key] - value).abs().max())
            assert error <= 1e-5, (name, key, error)


def poor_ranks(folder):
    """Take steps where rank 1 has an empty view, or nothing that matches."""
    for case in ("empty view", "no match", "one point", "empty local view"):
        torch.manual_seed(0)
        for semantic in (DOS, SONATA):
            local = 2 * (semantic is SONATA)
            data = batch(1, seed=comm.get_rank(), num_local=local)
            if comm.get_rank() == 1:
                spoil(data, case)
            model = build_model(
                {
                    "type": "PointINS",
                    "backbone": {**BACKBONE, "mask_token": bool(local)},
                    "semantic": semantic,
                    "offset_branch": {
                        **BRANCH,
                        "odr": {"type": "ODRLoss", "scope": "batch"},
                        "scr": {"type": "SCRLoss", "exclude_planes": True},
                    },
                    "mask_size_base": 0.2,
                    "match_max_r": 0.1,
                }
            ).train()
            model.set_progress(0.5)
            wrapped = nn.parallel.DistributedDataParallel(model)
            output = wrapped(data)
            output["loss"].backward()
            assert output["loss"].isfinite(), (case, semantic)
            for parameter in model.student.parameters():
                assert parameter.grad is None or parameter.grad.isfinite().all()
            keys = [None, None]
            dist.all_gather_object(keys, sorted(output))
            assert keys[0] == keys[1], (case, semantic)
        contrast_step(case)
    (Path(folder) / str(comm.get_rank())).touch()


def contrast_step(case):
    """The same for PointContrast, which gathers the matches of all ranks."""
    for kind in ("PointInfoNCELoss", "HardestContrastiveLoss"):
        data = batch(1, seed=comm.get_rank())
        if comm.get_rank() == 1:
            spoil(data, case)
        torch.manual_seed(0)
        model = build_model(
            {
                "type": "PointContrast",
                "backbone": BACKBONE,
                "loss": {"type": kind},
                "match_max_r": 0.1,
            }
        )
        output = nn.parallel.DistributedDataParallel(model.train())(data)
        output["loss"].backward()
        assert output["loss"].isfinite(), (case, kind)


def spoil(data, case):
    if case == "no match":
        data["global_origin_coord"] = data["global_origin_coord"].clone()
        second = int(data["global_offset"][0])
        data["global_origin_coord"][second:] += 100
        return
    kind = "local" if "local" in case else "global"
    if f"{kind}_offset" not in data:
        return
    keep = 1 if case == "one point" else 0
    first = int(data[f"{kind}_offset"][0])
    for key in ("coord", "origin_coord", "feat"):
        data[f"{kind}_{key}"] = data[f"{kind}_{key}"][: first + keep]
    data[f"{kind}_offset"] = torch.tensor([first, first + keep])


def test_poor_ranks_do_not_hang(tmp_path):
    launch(poor_ranks, 2, cfg=(str(tmp_path),), timeout=TIMEOUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
