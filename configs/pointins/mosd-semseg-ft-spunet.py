"""Semantic classes on mOSD table tops, sparse U-Net, fine-tuning: all learns.

One learning rate for all layers, as in pre-training.
"""

_base_ = ["mosd-semseg-lin-spunet.py"]

model = dict(freeze_backbone=False)
param_dicts = None
# As random weights: so short a schedule ends early at the rates of long ones.
optimizer = {{_base_.scratch_optimizer}}
scheduler = dict(max_lr=0.006)
