"""Classes on nuScenes, fine-tuning: all of the network learns."""

_base_ = ["nuscenes-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
