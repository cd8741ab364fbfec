"""PointINS on ScanNet on four GPUs: scannet-pretrain with half of the batch.

Learning rate and momentum follow the batch as in scannet-pretrain-1gpu, which says how.
"""

from pointins_plugin.recipes import decayed_by_block

_base_ = ["scannet-pretrain.py"]

batch_size = 48
num_worker = 32

share = batch_size / 96
lr = 0.004 * share**0.5
param_dicts = decayed_by_block(lr)
optimizer = dict(lr=lr)
scheduler = dict(max_lr=[lr] + [group["lr"] for group in param_dicts])

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.994**share, momentum_final=1.0),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=200),
    {{_base_.label_free}},
    dict(type="CheckpointSaver", save_freq=5),
]

del share, lr, decayed_by_block
