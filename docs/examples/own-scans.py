"""PointINS on scans of your own, small enough for two CPU cores: docs/own-scans.md.

Every length but the prior is a multiple of the cell, which is the one to choose: a
fifth to a tenth of the width of the smallest thing that is to be told from others.
"""

_base_ = ["../../configs/pointins/mosd-pretrain.py"]

grid_size = 0.05  # metres: furniture
data_root = "data/mine"
viewpoint = None  # (x, y, z) of the camera, which estimated normals face; None: up
epoch = 50
eval_epoch = 50
evaluate = False  # True scores data_root/val at the end, if it has labels

model = dict(
    offset_branch=dict(prior="prior.json"),  # by pointins fit-prior
    mask_size_start=4 * grid_size,
    mask_size_base=4 * grid_size,
    match_max_r=grid_size,
)

transform = [
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="TrackedMultiViewGenerator",
        view_keys=("coord", "origin_coord", "color", "normal"),
        global_view_num=2,
        global_view_scale=(0.8, 1.0),
        local_view_num=0,
        global_shared_transform={{_base_.colour}},
        global_transform=[
            dict(type="TrackedAffine"),
            dict(type="RandomJitter", sigma=0.1 * grid_size, clip=0.5 * grid_size),
        ],
        max_size=16384,  # cells a view; fewer need less memory
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
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
    ),
]

data = dict(
    train=dict(
        data_root=data_root,
        viewpoint=viewpoint,
        transform=transform,
        skip_bad=True,  # leave out scenes that cannot be used, naming each
    ),
    val=dict(
        data_root=data_root,
        viewpoint=viewpoint,
        transform=[
            dict(
                type="GridSample",
                grid_size=grid_size,
                mode="train",
                return_grid_coord=True,
            ),
            dict(type="Copy", keys_dict=dict(coord="origin_coord")),
            dict(type="CenterShift", apply_z=True),
            dict(type="NormalizeColor"),
            dict(type="InstanceParser", segment_ignore_index=(-1,)),
            dict(type="ToTensor"),
            dict(type="Update", keys_dict=dict(grid_size=grid_size)),
            dict(
                type="Collect",
                keys=(
                    "coord",
                    "origin_coord",
                    "grid_coord",
                    "segment",
                    "instance",
                    "grid_size",
                    "name",
                ),
                feat_keys=("coord", "color", "normal"),
            ),
        ],
    ),
)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.98, momentum_final=0.999),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=50),
    # also without evaluation: `pointins predict` groups as it says
    dict(
        type="LabelFreeInstanceEvaluator",
        radius=0.75 * grid_size,
        baseline_radius=1.25 * grid_size,
        bandwidth=2 * grid_size,
        min_size=20,
        min_region=20,
        planes=dict(threshold=0.6 * grid_size, min_share=0.1),
        smoothing=dict(rounds=2, num_neighbours=11, reach=3 * grid_size),
    ),
    dict(type="CheckpointSaver"),
]
