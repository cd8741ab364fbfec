"""PointGroup on mOSD table tops from random weights, for comparison."""

_base_ = ["mosd-insseg-ft.py"]

optimizer = {{_base_.scratch_optimizer}}
scheduler = {{_base_.scratch_scheduler}}
param_dicts = {{_base_.scratch_param_dicts}}
hooks = {{_base_.scratch_hooks}}
