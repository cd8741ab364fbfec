"""PointGroup on mOSD table tops, sparse U-Net, fine-tuning: all learns.

One learning rate for all layers, as in pre-training.
"""

_base_ = ["mosd-insseg-lin-spunet.py"]

model = dict(freeze_backbone=False)
param_dicts = None
scheduler = dict(max_lr=0.002)
