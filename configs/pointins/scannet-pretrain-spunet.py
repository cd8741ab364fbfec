"""PointINS on ScanNet with a sparse-convolution U-Net: the twin of scannet-pretrain.

The network has a feature for every 2 cm cell; tokens are their means over 8 cm, as
with the Transformer. Views are sampled to one point a cell after augmentation, where
convolutions need it. One learning rate for all layers.
"""

_base_ = ["scannet-pretrain.py"]

grid_size = 0.02

model = dict(
    backbone=dict(
        _delete_=True,
        type="SpUNet-v1m1",
        in_channels=9,
        num_classes=0,
        channels=(32, 64, 128, 256, 256, 128, 96, 96),
        layers=(2, 3, 4, 6, 2, 2, 2, 2),
    ),
    teacher_custom=None,
    head_in_channels=96,
    up_cast_level=0,
    token_pool=4,
)

param_dicts = None
scheduler = dict(max_lr=0.004)

transform = [
    dict(type="GridSample", grid_size=grid_size, hash_type="fnv", mode="train"),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="TrackedMultiViewGenerator",
        view_keys=("coord", "origin_coord", "color", "normal", "grid_coord"),
        global_view_num=2,
        global_view_scale=(0.4, 1.0),
        local_view_num=0,
        global_shared_transform=[
            dict(
                type="RandomColorJitter",
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.02,
                p=0.8,
            ),
            dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
            dict(type="NormalizeColor"),
        ],
        global_transform=[
            dict(type="TrackedAffine"),
            dict(type="RandomJitter", sigma=0.005, clip=0.02),
            dict(type="ElasticDistortion", distortion_params=[[0.2, 0.4], [0.8, 1.6]]),
            dict(
                type="GridSample",
                grid_size=grid_size,
                hash_type="fnv",
                mode="train",
                return_grid_coord=True,
            ),
        ],
        max_size=65536,
    ),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict=dict(grid_size=grid_size)),
    dict(
        type="Collect",
        keys=(
            "global_origin_coord",
            "global_coord",
            "global_grid_coord",
            "global_offset",
            "global_affine",
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
    ),
]

data = dict(train=dict(transform=transform))
