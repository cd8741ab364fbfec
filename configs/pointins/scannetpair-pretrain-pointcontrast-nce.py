"""PointContrast (PointInfoNCE) as published: pairs of ScanNet's depth frames.

Sparse-convolution U-Net on colours, 2.5 cm cells, batches of 32 pairs, SGD. Pointcept's
pointcept/datasets/preprocessing/scannet/scannet_pair prepares the frames. For another
batch size scale the learning rate in proportion, as usual with SGD. Unlike in
Pointcept's own config no frame is centred before `origin_coord` is copied: the two
would no longer share a frame of reference.
"""

import os

_base_ = ["_base_/default_runtime.py"]

root = os.environ.get("POINTINS_DATA", "data")

grid_size = 0.025

batch_size = 32
num_worker = 32
epoch = 10  # as in Pointcept; the paper trains for 60,000 steps
eval_epoch = 10

model = dict(
    type="PointContrast",
    backbone=dict(
        type="SpUNet-v1m1",
        in_channels=3,
        num_classes=0,
        channels=(32, 64, 128, 256, 256, 128, 96, 96),
        layers=(2, 3, 4, 6, 2, 2, 2, 2),
    ),
    head_in_channels=96,
    loss=dict(type="PointInfoNCELoss", temperature=0.07, num_pairs=4096),
    embed_channels=32,
    up_cast_level=0,
    match_max_r=0.0375,  # 1.5 cells
    match_max_k=8,
)

base_lr = 0.05
optimizer = dict(
    type="SGD", lr=base_lr, momentum=0.8, weight_decay=0.0001, nesterov=True
)
scheduler = dict(
    type="OneCycleLR",
    max_lr=base_lr,
    pct_start=0.01,
    anneal_strategy="cos",
    div_factor=10.0,
    final_div_factor=10000.0,
)

view = [
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(
        type="Update",
        keys_dict=dict(index_valid_keys=["coord", "color", "origin_coord"]),
    ),
    dict(type="TrackedAffine", rotate_p=1.0, scale=(1.0, 1.0)),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(
        type="RandomColorJitter",
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.02,
        p=0.8,
    ),
    dict(type="ChromaticJitter", p=0.95, std=0.05),
    dict(
        type="GridSample",
        grid_size=grid_size,
        hash_type="fnv",
        mode="train",
        return_grid_coord=True,
    ),
    dict(type="NormalizeColor"),
    dict(type="ToTensor"),
    dict(
        type="Collect",
        keys=("origin_coord", "grid_coord", "coord"),
        offset_keys_dict=dict(offset="coord"),
        feat_keys=["color"],
    ),
]

data = dict(
    train=dict(
        type="ScanNetPairDataset",
        data_root=f"{root}/scannet_pair",
        overlap_threshold=0.3,
        view1_transform=view,
        view2_transform=view,
    ),
)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CheckpointSaver"),
]

del os, root
