"""PointGroup on procedural rooms, linear probing: a frozen backbone.

The paper-scale protocol in minutes on two CPU cores. Needs a checkpoint of
demo-pretrain or rooms-pretrain (-w), whose encoder this is.

The linear probe of the study (docs/study.md) solves heads on these scenes.
"""

from pointins_plugin.recipes import insseg_train, insseg_val

_base_ = [
    "_base_/insseg.py",
    "_base_/ptv3_downstream_small.py",
    "_base_/rooms.py",
]

grid_size = 0.08

batch_size = 4
num_worker = 1
epoch = 24
eval_epoch = 4
enable_amp = False
seed = 0

radius = 0.12  # of grouping, metres

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    semantic_num_classes={{_base_.num_classes}},
    segment_ignore_index={{_base_.segment_ignore_index}},
    cluster_thresh=radius / grid_size,
    cluster_propose_points=15,
    cluster_min_points=8,
    voxel_size=grid_size,
)

transform = insseg_train(
    {{_base_.segment_ignore_index}},
    grid_size,
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
