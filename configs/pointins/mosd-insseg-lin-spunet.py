"""PointGroup on mOSD table tops, sparse U-Net, linear probing.

The twin of mosd-insseg-lin. Needs a checkpoint of mosd-pretrain-spunet (-w), which
has trained the whole U-Net: all is frozen, and there is no half-frozen twin.
"""

_base_ = ["mosd-insseg-lin.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="SpUNet-v1m1",
        in_channels=9,
        num_classes=0,
        base_channels=32,
        channels=(32, 64, 128, 128, 96, 64),
        layers=(1, 1, 1, 1, 1, 1),
    ),
    backbone_out_channels=64,
)
