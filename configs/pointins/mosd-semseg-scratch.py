"""Semantic classes on mOSD table tops from random weights, for comparison."""

_base_ = ["mosd-semseg-ft.py"]

hooks = {{_base_.scratch_hooks}}
