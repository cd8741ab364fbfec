"""Semantic classes on ScanNet200 from random weights, for comparison."""

_base_ = ["scannet200-semseg-ft.py"]

batch_size = 12
num_worker = 24
clip_grad = None
optimizer = {{_base_.scratch_optimizer}}
scheduler = {{_base_.scratch_scheduler}}
param_dicts = {{_base_.scratch_param_dicts}}
hooks = {{_base_.scratch_hooks}}
