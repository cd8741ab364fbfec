"""PointGroup on mOSD table tops, linear probing: a frozen backbone.

The paper-scale protocol in minutes on two CPU cores. Needs a checkpoint of
mosd-pretrain (-w), whose encoder this is.

The linear probe of the study (docs/study.md) solves heads on these scenes.
"""

from pointins_plugin.recipes import insseg_train, insseg_val

_base_ = [
    "_base_/insseg.py",
    "_base_/ptv3_downstream_small.py",
    "_base_/mosd.py",
]

grid_size = 0.015

batch_size = 4
num_worker = 1
epoch = 40
eval_epoch = 4
enable_amp = False
seed = 0

radius = 0.0225  # of grouping by components, metres

model = dict(
    type="PG-grouping",
    grouping="modes",
    bandwidth=0.03,
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    semantic_num_classes={{_base_.num_classes}},
    segment_ignore_index={{_base_.segment_ignore_index}},
    cluster_thresh=radius / grid_size,
    cluster_propose_points=30,
    cluster_min_points=20,
    voxel_size=grid_size,
)

transform = insseg_train(
    {{_base_.segment_ignore_index}},
    grid_size,
    jitter=(0.002, 0.008),
    elastic=None,
)
transform_val = insseg_val({{_base_.segment_ignore_index}}, grid_size)
data = dict(
    train=dict(transform=transform),
    val=dict(transform=transform_val),
    test=dict(transform=transform_val),
)
test = dict(
    type="InsSegTester",
    segment_ignore_index={{_base_.segment_ignore_index}},
    instance_ignore_index=-1,
    verbose=False,
)

del insseg_train, insseg_val
