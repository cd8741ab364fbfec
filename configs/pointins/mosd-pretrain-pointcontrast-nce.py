"""PointContrast (PointInfoNCE) on mOSD: backbone and schedule of mosd-pretrain.

The two views are what two cameras above and around the table would see. Without
offsets there is nothing to score, so that nothing is evaluated.

Row `pointcontrast-nce` of the study (docs/study.md).
"""

_base_ = ["mosd-pretrain.py", "_base_/contrast.py"]

grid_size = 0.015
evaluate = False

model = dict(
    _delete_=True,
    type="PointContrast",
    backbone={{_base_.model.backbone}},
    loss=dict(type="PointInfoNCELoss", temperature=0.07, num_pairs=1024),
    embed_channels=32,
    up_cast_level=3,
    match_max_r=0.015,
    match_max_k=8,
)

transform = [
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="PartialViewPairGenerator",
        view_keys=("coord", "origin_coord", "color", "normal"),
        overlap=(0.3, 0.9),
        field_of_view=(90, 70),
        elevation=(20, 70),
        margin=0.4,
        headroom=0.6,
        max_size=8192,
        global_transform=[
            dict(type="TrackedAffine", rotate_p=1.0, scale=(1.0, 1.0)),
            dict(type="RandomJitter", sigma=0.002, clip=0.008),
            dict(
                type="RandomColorJitter",
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.02,
                p=0.8,
            ),
            dict(type="ChromaticJitter", p=0.95, std=0.05),
            dict(type="NormalizeColor"),
        ],
    ),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict=dict(grid_size=grid_size)),
    dict(
        type="Collect",
        keys=(
            "global_origin_coord",
            "global_coord",
            "global_offset",
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
    ),
]

data = dict(train=dict(transform=transform))
hooks = {{_base_.contrast_hooks}}
