"""PointINS on S3DIS as published: network, branch and schedule of scannet-pretrain.

Area 5 is left out, which the usual split tests on. The 204 other rooms are repeated,
so that the run is as long as ScanNet's. The prior is that of ScanNet's things, as both
are indoors; `pointins fit-prior data/s3dis --split Area_1` fits one.
"""

import os

_base_ = ["scannet-pretrain.py"]

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
