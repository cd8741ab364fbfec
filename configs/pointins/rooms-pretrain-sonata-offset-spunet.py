"""PointINS on Sonata, on procedural rooms, with a sparse-convolution U-Net.

Objective and local views are those of rooms-pretrain-sonata-offset, the rest is as in
rooms-pretrain-spunet. The mask token takes the place of a hidden point's input.
"""

_base_ = ["rooms-pretrain-spunet.py"]

grid_size = 0.08

model = dict(
    semantic=dict(
        _delete_=True,
        type="SonataObjective",
        hidden_channels=512,
        embed_channels=128,
        num_prototypes=256,
    ),
    num_local_view=4,
    mask_jitter=0.04,  # half a cell
)

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
geometry = [
    dict(type="TrackedAffine"),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(
        type="GridSample",
        grid_size=grid_size,
        mode="train",
        return_grid_coord=True,
    ),
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
            "grid_coord",
        ),
        global_view_num=2,
        global_view_scale=(0.8, 1.0),
        local_view_num=4,
        local_view_scale=(0.1, 0.4),
        global_shared_transform=colour,
        global_transform=geometry,
        local_transform=geometry + colour,
        max_size=16384,
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
            "global_instance",
            "global_instance_centroid",
            "local_origin_coord",
            "local_coord",
            "local_grid_coord",
            "local_offset",
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
        local_feat_keys=("local_coord", "local_color", "local_normal"),
    ),
]

data = dict(train=dict(transform=transform))
