"""PointContrast (PointInfoNCE) on procedural streets: the run of streets-pretrain.

The two views are what two sensors beside the road would see of a scan. Without offsets
there is nothing to score, so that nothing is evaluated.

Row `pointcontrast-nce` of the study (docs/study.md).
"""

_base_ = ["streets-pretrain.py", "_base_/contrast.py"]

grid_size = 0.15
evaluate = False

model = dict(
    _delete_=True,
    type="PointContrast",
    backbone={{_base_.model.backbone}},
    loss=dict(type="PointInfoNCELoss", temperature=0.07, num_pairs=1024),
    embed_channels=32,
    up_cast_level=3,
    match_max_r=0.15,
    match_max_k=8,
)

transform = [
    dict(type="RangeCrop", near=2.0, far=30.0),
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="PartialViewPairGenerator",
        view_keys=("coord", "origin_coord", "strength"),
        overlap=(0.3, 0.9),
        field_of_view=(120, 60),
        elevation=(0, 30),
        max_size=8192,
        global_transform=[
            dict(type="TrackedAffine", rotate_p=1.0, scale=(1.0, 1.0)),
            dict(type="RandomJitter", sigma=0.01, clip=0.04),
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
        global_feat_keys=("global_coord", "global_strength"),
    ),
]

data = dict(train=dict(transform=transform))
hooks = {{_base_.contrast_hooks}}
