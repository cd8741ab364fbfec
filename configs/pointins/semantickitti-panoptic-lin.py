"""Panoptic segmentation of SemanticKITTI, linear probing: a frozen backbone.

Needs a checkpoint of semantickitti-pretrain (-w). `pointins submit` writes the test
scans' predictions for the benchmark.
"""

from pointins_plugin.lidar_recipes import panoptic_train, panoptic_val

_base_ = [
    "_base_/panoptic.py",
    "_base_/ptv3_downstream_lidar.py",
    "_base_/semantickitti.py",
]

grid_size = 0.05

model = dict(
    backbone={{_base_.encoder}},
    backbone_out_channels={{_base_.encoder_channels}},
    semantic_num_classes={{_base_.num_classes}},
    segment_ignore_index={{_base_.segment_ignore_index}},
)

transform_val = panoptic_val(
    {{_base_.segment_ignore_index}}, grid_size, raw_labels=True
)
data = dict(
    train=dict(transform=panoptic_train({{_base_.segment_ignore_index}}, grid_size)),
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
