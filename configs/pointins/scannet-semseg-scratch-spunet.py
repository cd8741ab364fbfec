"""Semantic classes on ScanNet, sparse U-Net from random weights."""

_base_ = ["scannet-semseg-ft-spunet.py"]

batch_size = 12
num_worker = 24
clip_grad = None
optimizer = {{_base_.scratch_optimizer}}
scheduler = dict(max_lr=0.006)
hooks = {{_base_.scratch_hooks}}
