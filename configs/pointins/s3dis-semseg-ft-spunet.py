"""Semantic classes on S3DIS, Area 5, sparse U-Net, fine-tuning: all learns.

One learning rate for all layers, as in pre-training.
"""

_base_ = ["s3dis-semseg-lin-spunet.py"]

model = dict(freeze_backbone=False)
param_dicts = None
scheduler = dict(max_lr=0.002)
