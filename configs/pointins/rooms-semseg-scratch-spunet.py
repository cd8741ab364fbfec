"""Semantic classes on procedural rooms, sparse U-Net from random weights."""

_base_ = ["rooms-semseg-ft-spunet.py"]

optimizer = {{_base_.scratch_optimizer}}
scheduler = dict(max_lr=0.006)
hooks = {{_base_.scratch_hooks}}
