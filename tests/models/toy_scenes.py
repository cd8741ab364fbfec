"""A backbone of three stages and batches of views of a floor with three boxes."""

import math

import torch

BACKBONE = {
    "type": "PT-v3m2",
    "in_channels": 6,
    "order": ("z", "hilbert"),
    "stride": (2, 2),
    "enc_depths": (1, 1, 1),
    "enc_channels": (16, 16, 32),
    "enc_num_head": (2, 2, 4),
    "enc_patch_size": (64, 64, 64),
    "drop_path": 0.0,
    "enable_flash": False,
    "traceable": True,
    "enc_mode": True,
}
PRIOR = {"type": "log_normal", "median": 0.2, "sigma": 0.5}


def scene(seed):
    """A floor and three boxes of points, 5 cm apart."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.arange(20) * 0.05
    floor = torch.cartesian_prod(side, side, torch.zeros(1))
    block = torch.cartesian_prod(*[torch.arange(5) * 0.05] * 3)
    corners = [[0.1, 0.1, 0.1], [0.6, 0.1, 0.1], [0.3, 0.6, 0.1]]
    points = torch.cat([floor, *[block + torch.tensor(corner) for corner in corners]])
    return points + 0.005 * torch.rand(points.shape, generator=generator)


def views(kind, clouds, seed=0):
    """Turn and scale each (points, quarter turns, scale) and collect them as views."""
    turned, affines = [], []
    for points, quarters, scale in clouds:
        angle = math.pi / 2 * quarters
        c, s = math.cos(angle), math.sin(angle)
        linear = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]]).double()
        affine = torch.eye(4, dtype=torch.float64)
        affine[:3, :3] = linear * scale
        affine[:3, 3] = 1.0
        moved = points.double() @ affine[:3, :3].t() + affine[:3, 3]
        turned.append(moved.float())
        affines.append(affine)
    coord = torch.cat(turned)
    colour = torch.rand(coord.shape, generator=torch.Generator().manual_seed(seed))
    return {
        f"{kind}_coord": coord,
        f"{kind}_origin_coord": torch.cat([points for points, _, _ in clouds]),
        f"{kind}_feat": torch.cat([coord, colour], 1),
        f"{kind}_offset": torch.tensor([len(v) for v in turned]).cumsum(0),
        f"{kind}_affine": torch.stack(affines),
    }


def batch(num_scenes=2, seed=0, num_local=0):
    """Two global views of each scene and, if asked, local ones, with matrices."""
    scenes = [scene(seed + index) for index in range(num_scenes)]
    whole = [
        (points, view + index, 1 + 0.1 * view)
        for index, points in enumerate(scenes)
        for view in range(2)
    ]
    data = views("global", whole, seed)
    if num_local:
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for index, points in enumerate(scenes):
            for view in range(num_local):
                centre = points[torch.randint(len(points), (), generator=generator)]
                near = (points - centre).square().sum(1).argsort()[:150]
                parts.append((points[near], view + index, 0.95))
        data.update(views("local", parts, seed + 1))
    return {**data, "grid_size": torch.tensor([0.05]), "name": ["a"] * num_scenes}
