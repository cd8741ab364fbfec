"""Panoptic segmentation of SemanticKITTI, fine-tuning: all of the network learns."""

_base_ = ["semantickitti-panoptic-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
