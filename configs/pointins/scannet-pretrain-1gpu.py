"""PointINS on ScanNet on one GPU: scannet-pretrain with an eighth of the batch.

The rules, for any other batch size B:
- learning rate: sqrt(B / 96) of the published one (AdamW takes steps whose noise, not
  size, depends on the batch);
- teacher momentum: the 96 / B-th root, so that the teacher forgets at the same rate
  per scene;
- epochs: the same, so that the network sees as many scenes.

A copy of this file beside it with another `batch_size` follows them;
scannet-pretrain-4gpu is one. As an option (`-o batch_size=`) it would change the batch
alone. More scenes a step without more memory: `gradient_accumulation_steps`.
"""

from pointins_plugin.recipes import decayed_by_block

_base_ = ["scannet-pretrain.py"]

batch_size = 12
num_worker = 12

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
