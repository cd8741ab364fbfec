"""Semantic classes on mOSD table tops, linear probing: a frozen backbone.

The paper-scale protocol in minutes on two CPU cores. Needs a checkpoint of
mosd-pretrain (-w), whose encoder this is.
"""

from pointins_plugin.recipes import semseg_test, semseg_train, semseg_val

_base_ = [
    "_base_/semseg.py",
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

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    num_classes={{_base_.num_classes}},
)

transform = semseg_train(
    grid_size,
    crops=(dict(type="SphereCrop", sample_rate=0.8, mode="random"),),
    jitter=(0.002, 0.008),
    elastic=None,
)
data = dict(
    train=dict(transform=transform),
    val=dict(transform=semseg_val(grid_size)),
    test=semseg_test(grid_size, augment=False),
)

del semseg_test, semseg_train, semseg_val
