"""Semantic classes on procedural rooms, fine-tuning: all of the network learns."""

_base_ = ["rooms-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
