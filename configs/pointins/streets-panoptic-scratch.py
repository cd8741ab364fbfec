"""Panoptic segmentation of procedural streets from random weights, for comparison.

Row `scratch` of the study (docs/study.md) is fine-tuned by this.
"""

_base_ = ["streets-panoptic-ft.py"]

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="PanopticEvaluator", min_points={{_base_.min_points}}),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="PreciseEvaluator", test_last=False),
]
