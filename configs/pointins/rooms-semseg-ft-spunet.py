"""Semantic classes on procedural rooms, sparse U-Net, fine-tuning: all learns.

One learning rate for all layers, as in pre-training.
"""

_base_ = ["rooms-semseg-lin-spunet.py"]

model = dict(freeze_backbone=False)
param_dicts = None
scheduler = dict(max_lr=0.002)
