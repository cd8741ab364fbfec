"""PointGroup on ScanNet200, decoder probing: the encoder is frozen."""

_base_ = ["scannet200-insseg-lin.py"]

model = dict(
    backbone={{_base_.decoder}},
    backbone_out_channels={{_base_.decoder_channels}},
    freeze_backbone=False,
)
