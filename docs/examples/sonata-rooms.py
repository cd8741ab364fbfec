"""A Sonata config as Pointcept users have them, small and on procedural rooms."""

_base_ = ["../../configs/pointins/_base_/default_runtime.py"]

batch_size = 1
num_worker = 1
epoch = 2
eval_epoch = 2
clip_grad = 3.0
evaluate = False

model = dict(
    type="Sonata-v1m1",
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
        mask_token=True,
    ),
    teacher_custom=dict(drop_path=0.0),
    head_in_channels=352,
    head_hidden_channels=512,
    head_embed_channels=128,
    head_num_prototypes=256,
    num_global_view=2,
    num_local_view=4,
    mask_size_start=0.16,
    mask_size_base=0.32,
    mask_jitter=0.04,
    teacher_temp_start=0.04,
    teacher_temp_base=0.07,
    student_temp=0.1,
    mask_loss_weight=2 / 8,
    roll_mask_loss_weight=2 / 8,
    unmask_loss_weight=4 / 8,
    momentum_base=0.98,
    momentum_final=1,
    match_max_k=8,
    match_max_r=0.16,
    up_cast_level=3,
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
geometry = [
    dict(type="CenterShift", apply_z=True),
    dict(type="RandomScale", scale=[0.9, 1.1]),
    dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.8),
    dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="x", p=0.8),
    dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="y", p=0.8),
    dict(type="RandomFlip", p=0.5),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(type="ElasticDistortion", distortion_params=[[0.2, 0.4], [0.8, 1.6]]),
]
transform = [
    dict(type="GridSample", grid_size=0.08, hash_type="fnv", mode="train"),
    dict(type="Copy", keys_dict={"coord": "origin_coord"}),
    dict(
        type="MultiViewGenerator",
        view_keys=("coord", "origin_coord", "color", "normal"),
        global_view_num=2,
        global_view_scale=(0.4, 1.0),
        local_view_num=4,
        local_view_scale=(0.1, 0.4),
        global_shared_transform=colour,
        global_transform=geometry,
        local_transform=geometry + colour,
        max_size=6144,
    ),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict={"grid_size": 0.08}),
    dict(
        type="Collect",
        keys=(
            "global_origin_coord",
            "global_coord",
            "global_offset",
            "local_origin_coord",
            "local_coord",
            "local_offset",
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
        local_feat_keys=("local_coord", "local_color", "local_normal"),
    ),
]

data = dict(
    train=dict(
        type="RoomsDataset", split="train", num_scenes=60, seed=0, transform=transform
    ),
)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CheckpointSaver"),
]
