"""Semantic classes on ScanNet200, fine-tuning: all of the network learns."""

_base_ = ["scannet200-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
