"""PointGroup on S3DIS, Area 5, fine-tuning: all of the network learns."""

_base_ = ["s3dis-insseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
