"""Panoptic segmentation of procedural streets, linear probing: a frozen backbone.

The paper-scale protocol in minutes on two CPU cores. Needs a checkpoint of
streets-pretrain (-w), whose encoder, cells and range these are.

The linear probe of the study (docs/study.md) solves heads on these scenes.
"""

from pointins_plugin.lidar_recipes import panoptic_train, panoptic_val

_base_ = [
    "_base_/panoptic.py",
    "_base_/ptv3_downstream_small_lidar.py",
    "_base_/streets.py",
]

grid_size = 0.15

batch_size = 2
num_worker = 1
epoch = 6
eval_epoch = 2
mix_prob = 0
enable_amp = False
seed = 0

optimizer = dict(lr=0.01)
scheduler = dict(max_lr=[0.01, 0.001])
param_dicts = [dict(keyword="block", lr=0.001)]

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    semantic_num_classes={{_base_.num_classes}},
    segment_ignore_index={{_base_.segment_ignore_index}},
    min_points=5,
    smoothing=dict(rounds=2, num_neighbours=11, reach=0.6),
)

before = [dict(type="RangeCrop", near=2.0, far=30.0)]
transform_val = panoptic_val({{_base_.segment_ignore_index}}, grid_size, before)
data = dict(
    train=dict(
        transform=panoptic_train({{_base_.segment_ignore_index}}, grid_size, before)
    ),
    val=dict(transform=transform_val),
    test=dict(transform=transform_val),
)

hooks = [
    dict(type="PretrainedLoader", branch="student", init_bias_head=False),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="PanopticEvaluator", min_points={{_base_.min_points}}),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="PreciseEvaluator", test_last=False),
]
test = dict(type="PanopticTester", min_points={{_base_.min_points}}, verbose=False)

del panoptic_train, panoptic_val
