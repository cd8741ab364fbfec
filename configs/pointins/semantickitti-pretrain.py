"""PointINS on SemanticKITTI: LiDAR scans, the *paper* preset, no colour, no normals.

Points of things have offsets of .9 m in the median, 2.3 m at most, a Weibull
distribution; tokens, of which near things have fewer, somewhat longer ones.
`pointins fit-prior --hdbscan --ground-height 0.3 --grid-size 0.2 --min-cluster-size 15
--max-scenes 200 --config pointins/semantickitti-pretrain --out FILE` fits those of
tokens, without labels.
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
    max_size=65536,
    crop=dict(type="RangeCrop", near=2.5, far=60.0),
)
data = dict(
    train=dict(
        type="SemanticKITTIPanopticDataset",
        split="train",
        data_root=f"{root}/semantic_kitti",
        frame="vehicle",
        labels=False,
        transform=transform,
    ),
)

del os, pretrain, root
