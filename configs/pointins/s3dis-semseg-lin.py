"""Semantic classes on S3DIS, Area 5, linear probing: a frozen backbone.

The protocol of Pointcept's `semseg-sonata-v1m1-3a-s3dis-lin`.
Needs a checkpoint of pre-training (-w).
"""

from pointins_plugin.recipes import semseg_test, semseg_train, semseg_val

_base_ = [
    "_base_/semseg.py",
    "_base_/ptv3_downstream.py",
    "_base_/s3dis.py",
]

epoch = 3000

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    num_classes={{_base_.num_classes}},
)

transform = semseg_train(
    crops=(
        dict(type="SphereCrop", sample_rate=0.6, mode="random"),
        dict(type="SphereCrop", point_max=204800, mode="random"),
    ),
)
data = dict(
    train=dict(transform=transform),
    val=dict(transform=semseg_val()),
    test=semseg_test(thin=0.01),
)

del semseg_test, semseg_train, semseg_val
