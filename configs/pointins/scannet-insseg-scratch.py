"""PointGroup on ScanNet from random weights, for comparison."""

_base_ = ["scannet-insseg-ft.py"]

batch_size = 12
num_worker = 24
optimizer = {{_base_.scratch_optimizer}}
scheduler = {{_base_.scratch_scheduler}}
param_dicts = {{_base_.scratch_param_dicts}}
hooks = {{_base_.scratch_hooks}}
