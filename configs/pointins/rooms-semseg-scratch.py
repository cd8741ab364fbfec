"""Semantic classes on procedural rooms from random weights, for comparison."""

_base_ = ["rooms-semseg-ft.py"]

hooks = {{_base_.scratch_hooks}}
