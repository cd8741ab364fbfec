"""Semantic classes on mOSD table tops, fine-tuning: all of the network learns."""

_base_ = ["mosd-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
