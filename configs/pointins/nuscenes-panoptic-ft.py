"""Panoptic segmentation of nuScenes, fine-tuning: all of the network learns."""

_base_ = ["nuscenes-panoptic-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
