"""Classes on procedural streets, fine-tuning: all learns."""

_base_ = ["streets-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
