"""Classes on nuScenes from random weights, for comparison."""

_base_ = ["nuscenes-semseg-ft.py"]

optimizer = dict(lr=0.002, weight_decay=0.005)
scheduler = dict(pct_start=0.04, final_div_factor=100.0)
hooks = {{_base_.scratch_hooks}}
