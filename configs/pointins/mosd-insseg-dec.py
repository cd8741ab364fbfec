"""PointGroup on mOSD table tops, decoder probing: the encoder is frozen."""

_base_ = ["mosd-insseg-lin.py"]

model = dict(
    backbone={{_base_.decoder}},
    backbone_out_channels={{_base_.decoder_channels}},
    freeze_backbone=False,
)
