"""What the offset branch leaves out of its targets outdoors: ground, not car sides."""

import torch

from pointins_plugin.models.objectives import Match
from pointins_plugin.models.offset_branch import OffsetBranch

PITCH = 0.2


def street():
    """A road that bends up, with a van on it whose side is a plane; which is van."""
    step = torch.arange(-10, 10, PITCH)
    x, y = torch.meshgrid(step, step, indexing="ij")
    road = torch.stack([x, y, 0.003 * x.square()], -1).reshape(-1, 3)
    x, z = torch.meshgrid(
        torch.arange(-2.5, 2.5, PITCH), torch.arange(0.5, 3, PITCH), indexing="ij"
    )
    side = torch.stack([x, torch.ones_like(x), z], -1).reshape(-1, 3)
    van = torch.arange(len(road) + len(side)) >= len(road)
    return torch.cat([road, side]), van


def targets(**options):
    scr = dict(
        type="SCRLoss",
        graph="spatial",
        segments="none",
        radius=2.5,
        min_size=20,
        fallback="none",
        exclude_planes=True,
    )
    branch = OffsetBranch(
        prior=dict(type="log_normal", median=1.0, sigma=0.8), scr=scr, **options
    )
    coord, van = street()
    zero = torch.zeros(len(coord), dtype=torch.long)
    found = branch.targets(
        coord,
        torch.zeros_like(coord),
        torch.tensor([len(coord)]),
        zero,
        coord,
        PITCH,
        torch.Generator().manual_seed(0),
    )
    return coord, van, found


def test_ground_is_left_out_and_the_side_of_a_van_is_a_thing():
    coord, van, found = targets(ground=dict(height=0.3))
    assert found.plane[~van].float().mean() > 0.95
    assert not found.plane[van].any()
    assert found.mask[van].all()
    centre = coord[van].mean(0)
    torch.testing.assert_close(
        coord[van] + found.shift[van], centre.expand(int(van.sum()), 3)
    )


def test_planes_would_take_the_van():
    _, van, found = targets(planes=dict(threshold=0.6, min_share=0.02))
    assert found.plane[van].float().mean() > 0.9
    assert not found.mask[van].any()


def regularized(**options):
    """Return a branch without SCR, a wall of tokens with a ball, and which are ball."""
    branch = OffsetBranch(
        prior=dict(type="log_normal", median=1.0, sigma=0.8), warmup_ratio=0, **options
    )
    side = torch.arange(40) * PITCH
    wall = torch.cartesian_prod(side, side)
    wall = torch.cat([wall, torch.zeros(len(wall), 1)], 1)
    ball = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    ball = ball / ball.norm(dim=1, keepdim=True) + torch.tensor([4.0, 4.0, 2.0])
    return branch, torch.cat([wall, ball]), torch.arange(1900) >= 1600


def of_branch(branch, coord, shift):
    cloud = torch.zeros(len(coord), dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    return branch.targets(
        coord, shift, torch.tensor([len(coord)]), cloud, coord, PITCH, generator
    )


def test_without_scr_planes_are_left_out_where_it_is_said():
    """Else the wall takes the lengths that the prior has for things."""
    shift = torch.randn(1900, 3, generator=torch.Generator().manual_seed(1))
    odr = dict(type="ODRLoss", direction="none")
    for excluded in (False, True):
        branch, coord, thing = regularized(odr=odr, exclude_planes=excluded)
        found = of_branch(branch, coord, shift * (1 + 9 * ~thing[:, None]))
        assert found.mask[thing].float().mean() > 0.95
        assert found.mask[~thing].float().mean() == (0 if excluded else 1)
        median = found.shift[thing & found.mask].norm(dim=1).median()
        # alone, things have all of the prior; beside a wall, its shortest sixth
        assert 0.9 < median < 1.1 if excluded else median < 0.5


def test_odr_on_the_student_leaves_planes_out():
    """Their gradient is zero, and what their offsets are changes nothing."""
    branch, coord, thing = regularized(
        odr=dict(type="ODRLoss", mode="distribution"), exclude_planes=True
    )
    target = of_branch(branch, coord, torch.zeros_like(coord))
    every = torch.arange(len(coord))
    match = Match(every, every, torch.zeros_like(every))
    found = []
    for scale in (1.0, 10.0):
        shift = torch.randn(1900, 3, generator=torch.Generator().manual_seed(1))
        shift[target.plane] *= scale
        shift.requires_grad_()
        draws = torch.Generator().manual_seed(0)
        losses = branch(shift, coord, target, coord, match, None, 1, draws)
        alone = losses["offset_loss"] - losses["offset_same_loss"]
        found.append(alone.item())
        alone.backward()
        assert (shift.grad[target.plane] == 0).all()
        assert (shift.grad[thing & ~target.plane] != 0).any()
    assert found[0] == found[1] > 0
