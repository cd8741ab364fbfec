"""PointINS on procedural rooms, the demo grown to some twenty minutes on two CPU cores.

Network, preset and schedule are the demo's. There are more rooms, and a view shows 80
to 100 % of one: where a smaller view ends, what shows that touching things are not one
thing is cut off.

Row `pointins-spatial` of the study (docs/study.md).
"""

_base_ = ["demo-pretrain.py"]

grid_size = 0.08

colour = [
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
]
stuff = (-1, 0, 1, 2, 3, 4)  # walls, floors, doors, windows, pictures: no instances
transform = [
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="InstanceParser", segment_ignore_index=stuff),
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
        global_shared_transform=colour,
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
