"""PointINS on nuScenes: LiDAR scans, the *paper* preset, no colour, no normals.

The prior is that of points of SemanticKITTI's things (.9 m in the median);
`pointins fit-prior --hdbscan --ground-height 0.3 --grid-size 0.2 --min-cluster-size 15
--max-scenes 200 --config pointins/nuscenes-pretrain --out FILE` fits one of this data
set's tokens, without labels; of 32 beams it is too long, see docs/outdoor.md. Range is
measured from the LiDAR, which stands .94 m ahead of the frame's origin.
"""

import os

from pointins_plugin.lidar_recipes import pretrain

_base_ = ["_base_/lidar_pretrain.py"]

root = os.environ.get("POINTINS_DATA", "data")

grid_size = 0.05

model = dict(
    offset_branch=dict(prior=dict(type="weibull", shape=2.04, scale=1.084)),
)

transform = pretrain(
    grid_size,
    max_size=32768,
    crop=dict(type="RangeCrop", near=2.0, far=60.0, center=(0.94, 0.0)),
)
data = dict(
    train=dict(
        type="NuScenesPanopticDataset",
        split="train",
        data_root=f"{root}/nuscenes",
        frame="vehicle",
        labels=False,
        transform=transform,
    ),
)

del os, pretrain, root
