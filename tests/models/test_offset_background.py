"""What the offset branch leaves out of its targets outdoors: ground, not car sides."""

import torch

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
