"""PointINS on procedural rooms, the demo with more and whole rooms.

Network, preset and schedule are the demo's. A view shows 80 to 100 % of a room: where a
smaller view ends, what shows that touching things are not one thing is cut off.

Row `pointins-spatial` of the study (docs/study.md).
"""

_base_ = ["demo-pretrain.py"]

grid_size = 0.08

transform = [
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="InstanceParser", segment_ignore_index={{_base_.stuff}}),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="TrackedMultiViewGenerator",
        view_keys=(
            "coord",
            "origin_coord",
            "color",
            "normal",
            "instance",
            "instance_centroid",
        ),
        global_view_num=2,
        global_view_scale=(0.8, 1.0),
        local_view_num=0,
        global_shared_transform={{_base_.colour}},
        global_transform=[
            dict(type="TrackedAffine"),
            dict(type="RandomJitter", sigma=0.005, clip=0.02),
        ],
        max_size=16384,
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
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
    ),
]

data = dict(
    train=dict(num_scenes=150, transform=transform),
    val=dict(num_scenes=12),
)
