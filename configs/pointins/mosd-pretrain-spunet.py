"""PointINS on mOSD table tops with a small sparse-convolution U-Net.

The twin of mosd-pretrain: tokens are the 1.5 cm cells, which the network has features
for. Views are sampled to one point a cell after augmentation, where convolutions need
it.

Row `pointins-spunet` of the study (docs/study.md).
"""

_base_ = ["mosd-pretrain.py"]

grid_size = 0.015

model = dict(
    backbone=dict(
        _delete_=True,
        type="SpUNet-v1m1",
        in_channels=9,
        num_classes=0,
        base_channels=32,
        channels=(32, 64, 128, 128, 96, 64),
        layers=(1, 1, 1, 1, 1, 1),
    ),
    head_in_channels=64,
    up_cast_level=0,
)

transform = [
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="InstanceParser", segment_ignore_index=(-1, 0)),
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
            dict(type="RandomJitter", sigma=0.002, clip=0.008),
            dict(
                type="GridSample",
                grid_size=grid_size,
                mode="train",
                return_grid_coord=True,
            ),
        ],
        max_size=8192,
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
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
    ),
]

data = dict(train=dict(transform=transform))

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(  # own_norms: see _base_/baseline_spunet.py
        type="EMATeacherHook",
        momentum_base=0.98,
        momentum_final=0.999,
        own_norms=True,
    ),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=50),
    dict(
        type="LabelFreeInstanceEvaluator",
        radius=0.75 * grid_size,
        baseline_radius=1.25 * grid_size,
        bandwidth=0.03,
        min_size=20,
        min_region=20,
        planes=dict(threshold=0.6 * grid_size, min_share=0.1),
        smoothing=dict(rounds=2, num_neighbours=11, reach=3 * grid_size),
        every=6,
    ),
    dict(type="CheckpointSaver"),
]
