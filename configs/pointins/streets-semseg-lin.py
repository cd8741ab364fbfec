"""Classes on procedural streets, linear probing: a frozen backbone.

The paper-scale protocol in minutes on two CPU cores. Needs a checkpoint of
streets-pretrain (-w), whose encoder, cells and range these are.
"""

from pointins_plugin.lidar_recipes import semseg_test, semseg_train, semseg_val

_base_ = [
    "_base_/semseg.py",
    "_base_/ptv3_downstream_small_lidar.py",
    "_base_/streets.py",
]

grid_size = 0.15

batch_size = 2
num_worker = 1
epoch = 6
eval_epoch = 2
mix_prob = 0
enable_amp = False
seed = 0

optimizer = dict(lr=0.01)
scheduler = dict(max_lr=[0.01, 0.001])
param_dicts = [dict(keyword="block", lr=0.001)]

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    num_classes={{_base_.num_classes}},
)

before = [dict(type="RangeCrop", near=2.0, far=30.0)]
data = dict(
    train=dict(transform=semseg_train(grid_size, before)),
    val=dict(transform=semseg_val(grid_size, before)),
    # coarse cells make many fragments: one view of each is enough for minutes
    test=semseg_test(grid_size, before, scales=(1.0,), mirrors=(False,)),
)

del semseg_test, semseg_train, semseg_val
