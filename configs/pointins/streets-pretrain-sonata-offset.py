"""PointINS on Sonata, on streets: the offset branch beside Sonata's objective.

All but the objective, its mask token and local views is as in streets-pretrain.

Row `pointins-sonata` of the study (docs/study.md).
"""

_base_ = ["streets-pretrain.py"]

grid_size = 0.15

model = dict(
    backbone=dict(mask_token=True),
    semantic=dict(
        _delete_=True,
        type="SonataObjective",
        hidden_channels=512,
        embed_channels=128,
        num_prototypes=256,
    ),
    num_local_view=4,
    mask_jitter=0.075,  # half a cell
)

stuff = (-1, 4, 5, 6, 7, 8, 9, 10, 11, 12)
geometry = [
    dict(type="TrackedAffine", center="origin"),
    dict(type="RandomJitter", sigma=0.01, clip=0.04),
]
transform = [
    dict(type="RangeCrop", near=2.0, far=30.0),
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="InstanceParser", segment_ignore_index=stuff),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="TrackedMultiViewGenerator",
        view_keys=(
            "coord",
            "origin_coord",
            "strength",
            "instance",
            "instance_centroid",
        ),
        global_view_num=2,
        global_view_scale=(0.8, 1.0),
        local_view_num=4,
        local_view_scale=(0.1, 0.4),
        global_transform=geometry,
        local_transform=geometry,
        max_size=8192,
        even_range=5.0,
    ),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict=dict(grid_size=grid_size)),
    dict(
        type="Collect",
        keys=(
            "global_origin_coord",
            "global_coord",
            "global_offset",
            "global_affine",
            "global_instance",
            "global_instance_centroid",
            "local_origin_coord",
            "local_coord",
            "local_offset",
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_strength"),
        local_feat_keys=("local_coord", "local_strength"),
    ),
]

data = dict(train=dict(transform=transform))
