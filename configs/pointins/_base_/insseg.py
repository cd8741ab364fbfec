"""PointGroup as in Pointcept's Sonata protocol: heads, schedule, hooks."""

_base_ = ["default_runtime.py"]

batch_size = 24
num_worker = 24
epoch = 800
eval_epoch = 100
mix_prob = 0.8
enable_amp = True
evaluate = True

model = dict(
    type="PG-v1m2",
    semantic_ignore_index=-1,
    instance_ignore_index=-1,
    cluster_closed_points=600,
    cluster_propose_points=200,
    cluster_min_points=50,
    criteria=[
        dict(type="CrossEntropyLoss", loss_weight=1.0, ignore_index=-1),
        dict(type="LovaszLoss", mode="multiclass", loss_weight=1.0, ignore_index=-1),
    ],
    freeze_backbone=True,
)

optimizer = dict(type="AdamW", lr=0.002, weight_decay=0.05)
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
scratch_optimizer = dict(lr=0.006)
scratch_scheduler = dict(max_lr=[0.006, 0.0006])
scratch_param_dicts = [dict(keyword="block", lr=0.0006)]

hooks = [
    dict(type="PretrainedLoader", branch="student", init_bias_head=False),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="InstanceAPEvaluator"),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="PreciseEvaluator", test_last=False),
]
scratch_hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="InstanceAPEvaluator"),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="PreciseEvaluator", test_last=False),
]
