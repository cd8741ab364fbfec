"""PointGroup on ScanNet, fine-tuning: all of the network learns."""

_base_ = ["scannet-insseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
