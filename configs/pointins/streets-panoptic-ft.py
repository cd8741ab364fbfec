"""Panoptic segmentation of procedural streets, fine-tuning: all learns."""

_base_ = ["streets-panoptic-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
