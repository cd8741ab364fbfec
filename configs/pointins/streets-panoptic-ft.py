"""Panoptic segmentation of procedural streets, fine-tuning: all learns.

All rows that the study (docs/study.md) fine-tunes, but `scratch`, are tuned by this.
"""

_base_ = ["streets-panoptic-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))

# As random weights: so short a schedule ends early at the rates of long ones.
scheduler = dict(max_lr=[0.004, 0.004])
param_dicts = [dict(keyword="block", lr=0.004)]
