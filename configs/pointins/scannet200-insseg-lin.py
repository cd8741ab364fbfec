"""PointGroup on ScanNet200, linear probing: a frozen backbone.

The protocol of Pointcept's `insseg-sonata-v1m1-1a-scannet200-pg-lin`.
Needs a checkpoint of pre-training (-w).
"""

from pointins_plugin.recipes import insseg_train, insseg_val

_base_ = [
    "_base_/insseg.py",
    "_base_/ptv3_downstream.py",
    "_base_/scannet200.py",
]

radius = 0.03  # of grouping, metres
voxel_size = 0.02

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    semantic_num_classes={{_base_.num_classes}},
    segment_ignore_index={{_base_.segment_ignore_index}},
    cluster_thresh=radius / voxel_size,
    voxel_size=voxel_size,
)

transform = insseg_train({{_base_.segment_ignore_index}})
transform_val = insseg_val({{_base_.segment_ignore_index}})
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
