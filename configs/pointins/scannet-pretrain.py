"""PointINS on ScanNet as published: PT-v3, DOS, the *paper* preset.

Tokens are 8 cm (two of four pools undone over a 2 cm grid). The prior is ScanNet's
own statistics of thing offsets (log-normal, median .45 m, sigma .78); batch and
learning rate are those of the paper's setting, 96 scenes on many GPUs;
scannet-pretrain-1gpu says how they go together.

With `-o evaluate=True` label-free instances of the validation scenes are scored at the
end; with `-r true` too, those of a run that has ended. Lengths of the grouping are the
demo's, by tokens: nothing was tuned on ScanNet.
"""

import os

from pointins_plugin.recipes import decayed_by_block

_base_ = ["_base_/default_runtime.py", "_base_/paper.py"]

root = os.environ.get("POINTINS_DATA", "data")

grid_size = 0.02

batch_size = 96
num_worker = 48
epoch = 200
eval_epoch = 200
clip_grad = 3.0
enable_amp = True
amp_dtype = "bfloat16"

model = dict(
    type="PointINS",
    backbone=dict(
        type="PT-v3m2",
        in_channels=9,
        order=("z", "z-trans", "hilbert", "hilbert-trans"),
        stride=(2, 2, 2, 2),
        enc_depths=(3, 3, 3, 12, 3),
        enc_channels=(48, 96, 192, 384, 512),
        enc_num_head=(3, 6, 12, 24, 32),
        enc_patch_size=(1024, 1024, 1024, 1024, 1024),
        mlp_ratio=4,
        qkv_bias=True,
        drop_path=0.3,
        shuffle_orders=True,
        pre_norm=True,
        enable_rpe=False,
        enable_flash=True,
        upcast_attention=False,
        upcast_softmax=False,
        traceable=True,
        enc_mode=True,
    ),
    teacher_custom=dict(drop_path=0.0),
    semantic=dict(
        type="DOSObjective",
        hidden_channels=4096,
        embed_channels=256,
        num_prototypes=1024,
        teacher_temp_start=0.04,
        teacher_temp_base=0.07,
        teacher_temp_warmup_ratio=0.05,
        student_temp=0.1,
        alpha=1.3,
        num_iters=20,
    ),
    offset_branch=dict(
        prior=dict(type="log_normal", median=0.45, sigma=0.78),
        hidden_channels=512,
        odr={{_base_.paper_odr}},
        scr={{_base_.paper_scr}},
        order=("odr", "scr"),
        loss_weight=0.25,
        warmup_ratio=0.1,
    ),
    num_global_view=2,
    up_cast_level=2,
    mask_size_start=0.1,
    mask_size_base=0.4,
    mask_size_warmup_ratio=0.05,
    mask_ratio_start=0.3,
    mask_ratio_base=0.7,
    mask_ratio_warmup_ratio=0.05,
    match_max_r=0.32,
)

lr = 0.004
param_dicts = decayed_by_block(lr)
optimizer = dict(type="AdamW", lr=lr, weight_decay=0.04)
scheduler = dict(
    type="OneCycleLR",
    max_lr=[lr] + [group["lr"] for group in param_dicts],
    pct_start=0.05,
    anneal_strategy="cos",
    div_factor=10.0,
    final_div_factor=1000.0,
)

transform = [
    dict(type="GridSample", grid_size=grid_size, hash_type="fnv", mode="train"),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="TrackedMultiViewGenerator",
        view_keys=("coord", "origin_coord", "color", "normal"),
        global_view_num=2,
        global_view_scale=(0.4, 1.0),
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
            dict(type="RandomJitter", sigma=0.005, clip=0.02),
            dict(type="ElasticDistortion", distortion_params=[[0.2, 0.4], [0.8, 1.6]]),
        ],
        max_size=65536,
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

transform_val = [
    dict(
        type="GridSample",
        grid_size=grid_size,
        hash_type="fnv",
        mode="train",
        return_grid_coord=True,
    ),
    dict(type="CenterShift", apply_z=True),
    dict(type="NormalizeColor"),
    dict(type="InstanceParser", segment_ignore_index=(-1, 0, 1)),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict=dict(grid_size=grid_size)),
    dict(
        type="Collect",
        keys=("coord", "grid_coord", "instance", "grid_size", "name"),
        feat_keys=("coord", "color", "normal"),
    ),
]

data = dict(
    train=dict(
        type="ScanNetDataset",
        split=["train", "val", "test"],
        data_root=f"{root}/scannet",
        transform=transform,
        test_mode=False,
        loop=1,
    ),
    val=dict(
        type="ScanNetDataset",
        split="val",
        data_root=f"{root}/scannet",
        transform=transform_val,
        test_mode=False,
    ),
)

label_free = dict(
    type="LabelFreeInstanceEvaluator",
    radius=0.06,
    bandwidth=0.17,
    baseline_radius=0.12,
    min_size=100,
    min_region=100,
    planes=dict(threshold=0.05, min_share=0.05),
    smoothing=dict(rounds=2, num_neighbours=11, reach=0.24),
    baselines=("plane_components", "oracle"),
    every=0,
)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.994, momentum_final=1.0),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=200),
    label_free,
    dict(type="CheckpointSaver", save_freq=5),
]

del os, root, lr, decayed_by_block
