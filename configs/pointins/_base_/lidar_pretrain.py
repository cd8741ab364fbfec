"""PointINS on LiDAR scans: the *paper* preset, 20 cm tokens, 1 m mask blocks.

Tokens are 20 cm (two of four pools undone over a 5 cm grid). Directions of offsets are
not regularized: sensors see one side of things, and theirs are flat, far from the
uniform sphere of rooms. Batch and learning rate are those of many GPUs;
scannet-pretrain-1gpu says how they go together.
"""

from pointins_plugin.recipes import decayed_by_block

_base_ = ["default_runtime.py"]

grid_size = 0.05

batch_size = 96
num_worker = 48
epoch = 50
eval_epoch = 50
clip_grad = 3.0
enable_amp = True
amp_dtype = "bfloat16"

model = dict(
    type="PointINS",
    backbone=dict(
        type="PT-v3m2",
        in_channels=4,
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
        hidden_channels=512,
        odr=dict(
            type="ODRLoss",
            mode="target",
            direction="none",
            magnitude=True,
            scope="cloud",
        ),
        scr=dict(
            type="SCRLoss",
            mode="target",
            graph="centre",
            segments="kmeans",
            num_segments=20,
            radius=1.5,
            max_edge=None,
            min_size=5,
            drop_huge=None,
            fallback="odr",
            exclude_planes=False,
        ),
        ground=dict(height=0.2),  # no part of things when offsets are grouped
        order=("odr", "scr"),
        loss_weight=0.25,
        warmup_ratio=0.1,
    ),
    num_global_view=2,
    up_cast_level=2,
    mask_size_start=0.25,
    mask_size_base=1.0,
    mask_size_warmup_ratio=0.05,
    mask_ratio_start=0.3,
    mask_ratio_base=0.7,
    mask_ratio_warmup_ratio=0.05,
    match_max_r=0.8,
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

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.994, momentum_final=1.0),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=200),
    dict(type="CheckpointSaver", save_freq=5),
]

del lr, decayed_by_block
