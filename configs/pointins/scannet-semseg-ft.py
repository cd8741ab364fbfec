"""Semantic classes on ScanNet, fine-tuning: all of the network learns."""

_base_ = ["scannet-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
