"""Semantic classes on ScanNet, linear probing: a frozen backbone.

The protocol of Pointcept's `semseg-sonata-v1m1-0a-scannet-lin`.
Needs a checkpoint of pre-training (-w).
"""

from pointins_plugin.recipes import semseg_test, semseg_train, semseg_val

_base_ = [
    "_base_/semseg.py",
    "_base_/ptv3_downstream.py",
    "_base_/scannet.py",
]

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    num_classes={{_base_.num_classes}},
)

transform = semseg_train(
    crops=(dict(type="SphereCrop", point_max=102400, mode="random"),),
)
data = dict(
    train=dict(transform=transform),
    val=dict(transform=semseg_val()),
    test=semseg_test(),
)

del semseg_test, semseg_train, semseg_val
