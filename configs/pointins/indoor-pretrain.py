"""PointINS on several indoor data sets at once: scannet-pretrain with more data.

As Sonata's multi-data-set pre-training: scenes are pooled and drawn alike, every set
once an epoch. Leave out what you do not have. S3DIS comes without Area 5, which the
usual split tests on. ScanNet++ has a reader of its own (`ScanNetPPDataset`) and can be
added. The prior is ScanNet's.
"""

import os

_base_ = ["scannet-pretrain.py"]

root = os.environ.get("POINTINS_DATA", "data")

data = dict(
    train=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[
            dict(
                type="ScanNetDataset",
                split=["train", "val", "test"],
                data_root=f"{root}/scannet",
                transform={{_base_.transform}},
            ),
            dict(
                type="S3DISDataset",
                split=["Area_1", "Area_2", "Area_3", "Area_4", "Area_6"],
                data_root=f"{root}/s3dis",
                transform={{_base_.transform}},
            ),
            dict(
                type="DefaultDataset",
                split=["Training", "Validation"],
                data_root=f"{root}/arkitscenes",
                transform={{_base_.transform}},
            ),
            dict(
                type="DefaultDataset",
                split=["train", "val"],
                data_root=f"{root}/hm3d",
                transform={{_base_.transform}},
            ),
            dict(
                type="DefaultDataset",
                split=["train/scene_*", "val/scene_*", "test/scene_*"],
                data_root=f"{root}/structured3d",
                transform={{_base_.transform}},
            ),
        ],
    ),
)

del os, root
