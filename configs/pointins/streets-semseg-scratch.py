"""Classes on procedural streets from random weights, for comparison."""

_base_ = ["streets-semseg-ft.py"]

scheduler = dict(max_lr=[0.004, 0.004])
param_dicts = [dict(keyword="block", lr=0.004)]
hooks = {{_base_.scratch_hooks}}
