"""Semantic classes on S3DIS, Area 5, sparse U-Net, linear probing.

The twin of s3dis-semseg-lin. Needs a checkpoint of s3dis-pretrain-spunet (-w), which
has trained the whole U-Net: all is frozen, and there is no half-frozen twin.
"""

_base_ = ["s3dis-semseg-lin.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="SpUNet-v1m1",
        in_channels=9,
        num_classes=0,
        channels=(32, 64, 128, 256, 256, 128, 96, 96),
        layers=(2, 3, 4, 6, 2, 2, 2, 2),
    ),
    backbone_out_channels=96,
)
