"""Classes on nuScenes, linear probing: a frozen backbone.

Labels are lidarseg's, as in that benchmark and in Pointcept's configs for outdoor
segmentation; the heads and the schedule are those of its Sonata protocol. Needs a
checkpoint of nuscenes-pretrain (-w).
"""

from pointins_plugin.lidar_recipes import semseg_test, semseg_train, semseg_val

_base_ = [
    "_base_/semseg.py",
    "_base_/ptv3_downstream_lidar.py",
    "_base_/nuscenes.py",
]

grid_size = 0.05

batch_size = 12
num_worker = 24
epoch = 50
eval_epoch = 50

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    num_classes={{_base_.num_classes}},
)

data = dict(
    train=dict(labels="lidarseg", transform=semseg_train(grid_size)),
    val=dict(labels="lidarseg", transform=semseg_val(grid_size)),
    test=dict(labels="lidarseg", **semseg_test(grid_size)),
)

del semseg_test, semseg_train, semseg_val
