"""PointINS on ScanNet on one GPU: scannet-pretrain with an eighth of the batch.

The rules, for any other batch size B:
- learning rate: sqrt(B / 96) of the published one (AdamW takes steps whose noise, not
  size, depends on the batch);
- teacher momentum: the 96 / B-th root, so that the teacher forgets at the same rate
  per scene;
- epochs: the same, so that the network sees as many scenes.
More scenes a step without more memory: `gradient_accumulation_steps`.
"""

_base_ = ["scannet-pretrain.py"]

batch_size = 12
num_worker = 12

share = batch_size / 96
base_lr = 0.004 * share**0.5
lr_decay = 0.9  # by block, from the last one down
depths = (3, 3, 3, 12, 3)
param_dicts = [
    dict(
        keyword=f"enc{e}.block{b}.",
        lr=base_lr * lr_decay ** (sum(depths) - sum(depths[:e]) - b - 1),
    )
    for e in range(5)
    for b in range(depths[e])
]
optimizer = dict(lr=base_lr)
scheduler = dict(max_lr=[base_lr] + [group["lr"] for group in param_dicts])

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.994**share, momentum_final=1.0),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=200),
    dict(type="CheckpointSaver", save_freq=5),
]
