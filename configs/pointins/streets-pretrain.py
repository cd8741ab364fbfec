"""PointINS on procedural streets: LiDAR scans, minutes on two CPU cores.

Tokens are the 15 cm cells (all three pools are undone); the input is where a point is
and how strongly it returned. The magnitude prior is the log-normal that
`pointins fit-prior --config pointins/streets-pretrain --ground-height 0.2
--min-cluster-size 30 --max-scenes 20` finds without labels.

Row `pointins-spatial` of the study (docs/study.md).
"""

_base_ = ["_base_/default_runtime.py", "_base_/spatial_lidar.py"]

grid_size = 0.15

batch_size = 1
num_worker = 1
epoch = 5
eval_epoch = 5
clip_grad = 3.0
evaluate = True
seed = 0

model = dict(
    type="PointINS",
    backbone=dict(
        type="PT-v3m2",
        in_channels=4,
        order=("z", "z-trans", "hilbert", "hilbert-trans"),
        stride=(2, 2, 2),
        enc_depths=(1, 1, 1, 1),
        enc_channels=(32, 64, 128, 128),
        enc_num_head=(2, 4, 8, 8),
        enc_patch_size=(128, 128, 128, 128),
        mlp_ratio=2,
        drop_path=0.0,
        shuffle_orders=True,
        enable_flash=False,
        traceable=True,
        enc_mode=True,
    ),
    semantic=dict(
        type="DOSObjective",
        hidden_channels=512,
        embed_channels=128,
        num_prototypes=256,
    ),
    offset_branch=dict(
        prior=dict(type="log_normal", median=0.98, sigma=0.8),
        hidden_channels=256,
        odr={{_base_.spatial_odr}},
        scr={{_base_.spatial_scr}},
        loss_weight=0.25,
        warmup_ratio=0.1,
        relative_position=True,
        ground={{_base_.spatial_ground}},
    ),
    num_global_view=2,
    up_cast_level=3,
    mask_size_start=0.6,
    mask_size_base=0.6,
    mask_ratio_start=0.3,
    mask_ratio_base=0.6,
    match_max_r=0.15,
)

optimizer = dict(type="AdamW", lr=0.002, weight_decay=0.04)
scheduler = dict(
    type="OneCycleLR",
    max_lr=0.002,
    pct_start=0.1,
    anneal_strategy="cos",
    div_factor=10.0,
    final_div_factor=100.0,
)

stuff = (-1, 4, 5, 6, 7, 8, 9, 10, 11, 12)
crop = dict(type="RangeCrop", near=2.0, far=30.0)
transform = [
    crop,
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
        local_view_num=0,
        global_transform=[
            dict(type="TrackedAffine", center="origin"),
            dict(type="RandomJitter", sigma=0.01, clip=0.04),
        ],
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
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_strength"),
    ),
]
transform_val = [
    crop,
    dict(type="GridSample", grid_size=grid_size, mode="train", return_grid_coord=True),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(type="InstanceParser", segment_ignore_index=stuff),
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
        feat_keys=("coord", "strength"),
    ),
]

data = dict(
    train=dict(
        type="StreetsDataset",
        split="train",
        num_scenes=60,
        seed=0,
        transform=transform,
    ),
    val=dict(
        type="StreetsDataset",
        split="val",
        num_scenes=8,
        seed=0,
        transform=transform_val,
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
    dict(
        type="LabelFreeInstanceEvaluator",
        radius=2 * grid_size,
        baseline_radius=2.5 * grid_size,
        bandwidth=0.9,
        min_size=20,
        min_region=20,
        ground={{_base_.spatial_ground}},
        smoothing=dict(rounds=2, num_neighbours=11, reach=3 * grid_size),
        every=0,
    ),
    dict(type="CheckpointSaver"),
    dict(type="ProgressBar"),
]
