"""PointGroup on ScanNet, sparse U-Net, linear probing.

The twin of scannet-insseg-lin. Needs a checkpoint of scannet-pretrain-spunet (-w),
which has trained the whole U-Net: all is frozen, and there is no half-frozen twin.
"""

_base_ = ["scannet-insseg-lin.py"]

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
