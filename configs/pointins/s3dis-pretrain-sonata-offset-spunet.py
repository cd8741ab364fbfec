"""PointINS on Sonata, on S3DIS without Area 5, with a sparse-convolution U-Net."""

import os

_base_ = ["scannet-pretrain-sonata-offset-spunet.py"]

root = os.environ.get("POINTINS_DATA", "data")

data = dict(
    train=dict(
        type="S3DISDataset",
        split=["Area_1", "Area_2", "Area_3", "Area_4", "Area_6"],
        data_root=f"{root}/s3dis",
        loop=8,
    ),
    val=None,
)

del os, root
