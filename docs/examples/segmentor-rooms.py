"""A segmentation config as Pointcept users have them, small and on rooms."""

_base_ = ["../../configs/pointins/_base_/default_runtime.py"]

batch_size = 2
num_worker = 1
epoch = 6
eval_epoch = 6
clip_grad = 3.0
evaluate = True
seed = 0

model = dict(
    type="DefaultSegmentorV2",
    num_classes=17,
    backbone_out_channels=352,
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
        drop_path=0.1,
        shuffle_orders=True,
        enable_flash=False,
        traceable=True,
        enc_mode=True,
    ),
    criteria=[dict(type="CrossEntropyLoss", loss_weight=1.0, ignore_index=-1)],
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

stuff = (-1, 0, 1, 2, 3, 4)  # walls, floors, doors, windows, pictures: no instances
keys = (
    "coord",
    "origin_coord",
    "grid_coord",
    "segment",
    "instance",
    "instance_centroid",
    "grid_size",
    "name",
)
transform = [
    dict(type="GridSample", grid_size=0.08, mode="train", return_grid_coord=True),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(type="CenterShift", apply_z=True),
    dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.8),
    dict(type="RandomFlip", p=0.5),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(type="NormalizeColor"),
    dict(type="InstanceParser", segment_ignore_index=stuff),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict=dict(grid_size=0.08)),
    dict(type="Collect", keys=keys, feat_keys=("coord", "color", "normal")),
]
transform_val = [
    dict(type="GridSample", grid_size=0.08, mode="train", return_grid_coord=True),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(type="CenterShift", apply_z=True),
    dict(type="NormalizeColor"),
    dict(type="InstanceParser", segment_ignore_index=stuff),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict=dict(grid_size=0.08)),
    dict(type="Collect", keys=keys, feat_keys=("coord", "color", "normal")),
]

data = dict(
    num_classes=17,
    ignore_index=-1,
    names=(
        "wall",
        "floor",
        "door",
        "window",
        "picture",
        "table",
        "chair",
        "sofa",
        "bed",
        "shelf",
        "cabinet",
        "lamp",
        "box",
        "books",
        "plant",
        "screen",
        "cushion",
    ),
    train=dict(
        type="RoomsDataset", split="train", num_scenes=60, seed=0, transform=transform
    ),
    val=dict(
        type="RoomsDataset", split="val", num_scenes=8, seed=0, transform=transform_val
    ),
)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="SemSegEvaluator"),
    dict(type="CheckpointSaver"),
]
