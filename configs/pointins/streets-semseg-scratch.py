"""Classes on procedural streets from random weights, for comparison."""

_base_ = ["streets-semseg-ft.py"]

hooks = {{_base_.scratch_hooks}}
