"""Semantic classes on S3DIS, Area 5 from random weights, for comparison."""

_base_ = ["s3dis-semseg-ft.py"]

batch_size = 12
num_worker = 24
clip_grad = None
optimizer = {{_base_.scratch_optimizer}}
scheduler = {{_base_.scratch_scheduler}}
param_dicts = {{_base_.scratch_param_dicts}}
hooks = {{_base_.scratch_hooks}}
