"""PointGroup on S3DIS, Area 5, decoder probing: the encoder is frozen."""

_base_ = ["s3dis-insseg-lin.py"]

model = dict(
    backbone={{_base_.decoder}},
    backbone_out_channels={{_base_.decoder_channels}},
    freeze_backbone=False,
)
