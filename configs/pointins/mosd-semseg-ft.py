"""Semantic classes on mOSD table tops, fine-tuning: all of the network learns."""

_base_ = ["mosd-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))

# As random weights: so short a schedule ends early at the rates of long ones.
optimizer = {{_base_.scratch_optimizer}}
scheduler = {{_base_.scratch_scheduler}}
param_dicts = {{_base_.scratch_param_dicts}}
