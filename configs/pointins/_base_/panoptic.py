"""PointGroup for panoptic segmentation of LiDAR scans: heads, schedule, hooks.

The schedule is that of instance segmentation indoors (Pointcept's Sonata protocol),
over as many epochs as outdoor segmentation takes there.
"""

_base_ = ["default_runtime.py"]

batch_size = 12
num_worker = 24
epoch = 50
eval_epoch = 50
mix_prob = 0.8
clip_grad = 3.0
enable_amp = True
evaluate = True

model = dict(
    type="PointGroupPanoptic",
    instance_ignore_index=-1,
    criteria=[
        dict(type="CrossEntropyLoss", loss_weight=1.0, ignore_index=-1),
        dict(type="LovaszLoss", mode="multiclass", loss_weight=1.0, ignore_index=-1),
    ],
    grouping="components",
    radius=0.4,
    min_points=10,
    freeze_backbone=True,
)

optimizer = dict(type="AdamW", lr=0.002, weight_decay=0.02)
scheduler = dict(
    type="OneCycleLR",
    max_lr=[0.002, 0.0002],
    pct_start=0.05,
    anneal_strategy="cos",
    div_factor=10.0,
    final_div_factor=1000.0,
)
param_dicts = [dict(keyword="block", lr=0.0002)]

# merged over a fine-tuning run that starts from random weights
scratch_optimizer = dict(weight_decay=0.005)
scratch_scheduler = dict(pct_start=0.04, final_div_factor=100.0)
scratch_param_dicts = [dict(keyword="block", lr=0.0002)]
