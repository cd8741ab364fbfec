"""Panoptic segmentation of procedural streets from random weights, for comparison."""

_base_ = ["streets-panoptic-ft.py"]

scheduler = dict(max_lr=[0.004, 0.004])
param_dicts = [dict(keyword="block", lr=0.004)]
hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="PanopticEvaluator", min_points={{_base_.min_points}}),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="PreciseEvaluator", test_last=False),
]
