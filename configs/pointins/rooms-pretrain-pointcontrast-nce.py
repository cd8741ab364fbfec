"""PointContrast (PointInfoNCE) on procedural rooms: the schedule of rooms-pretrain.

The two views are what two cameras in the room would see. Without offsets there is
nothing to score, so that nothing is evaluated.

Row `pointcontrast-nce` of the study (docs/study.md).
"""

_base_ = ["rooms-pretrain.py", "_base_/contrast.py"]

grid_size = 0.08
evaluate = False

model = dict(
    _delete_=True,
    type="PointContrast",
    backbone={{_base_.model.backbone}},
    loss=dict(type="PointInfoNCELoss", temperature=0.07, num_pairs=1024),
    embed_channels=32,
    up_cast_level=3,
    match_max_r=0.08,
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
        max_size=6144,
        global_transform={{_base_.contrast_view}},
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
