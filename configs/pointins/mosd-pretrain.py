"""PointINS on mOSD table tops: real RGB-D frames, minutes on two CPU cores.

Tokens are the 1.5 cm cells (all three pools are undone). Views show nearly the whole
scene: an object cut by the edge of a view has its centre elsewhere. The magnitude
prior is the gamma distribution that `pointins fit-prior data/mosd` finds without
labels.

Row `pointins-spatial` of the study (docs/study.md).
"""

import os

_base_ = ["_base_/default_runtime.py", "_base_/spatial.py"]

# $POINTINS_DATA/mosd, else data/mosd of the repository, else a folder beside it
data_root = os.path.join(os.environ.get("POINTINS_DATA", "data"), "mosd")
if not os.path.isdir(data_root) and os.path.isdir("../shared/data/mosd"):
    data_root = "../shared/data/mosd"
del os

grid_size = 0.015

# where the camera was, the same in all scenes: seen from there, hardly a ray meets two
# surfaces
viewpoint = (0.1, -1.0, 1.1)

batch_size = 2
num_worker = 1
epoch = 24
eval_epoch = 12
clip_grad = 3.0
evaluate = True
seed = 0

model = dict(
    type="PointINS",
    backbone=dict(
        type="PT-v3m2",
        in_channels=9,
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
        prior=dict(type="gamma", shape=3.617, scale=0.02213),
        hidden_channels=256,
        odr={{_base_.spatial_odr}},
        scr={{_base_.spatial_scr}},
        loss_weight=0.25,
        warmup_ratio=0.1,
        relative_position=True,
    ),
    num_global_view=2,
    up_cast_level=3,
    mask_size_start=0.06,
    mask_size_base=0.06,
    mask_ratio_start=0.3,
    mask_ratio_base=0.6,
    match_max_r=0.015,
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
view_keys = (
    "coord",
    "origin_coord",
    "color",
    "normal",
    "instance",
    "instance_centroid",
)
transform = [
    dict(type="GridSample", grid_size=grid_size, mode="train"),
    dict(type="InstanceParser", segment_ignore_index=(-1, 0)),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="TrackedMultiViewGenerator",
        view_keys=view_keys,
        global_view_num=2,
        global_view_scale=(0.8, 1.0),
        local_view_num=0,
        global_shared_transform=colour,
        global_transform=[
            dict(type="TrackedAffine"),
            dict(type="RandomJitter", sigma=0.002, clip=0.008),
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
transform_val = [
    dict(type="GridSample", grid_size=grid_size, mode="train", return_grid_coord=True),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(type="CenterShift", apply_z=True),
    dict(type="NormalizeColor"),
    dict(type="InstanceParser", segment_ignore_index=(-1, 0)),
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
]

data = dict(
    train=dict(
        type="FolderDataset",
        split="train",
        data_root=data_root,
        transform=transform,
        viewpoint=viewpoint,
    ),
    val=dict(
        type="FolderDataset",
        split="val",
        data_root=data_root,
        transform=transform_val,
        viewpoint=viewpoint,
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
