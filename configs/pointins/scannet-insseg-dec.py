"""PointGroup on ScanNet, decoder probing: the encoder is frozen."""

_base_ = ["scannet-insseg-lin.py"]

model = dict(
    backbone={{_base_.decoder}},
    backbone_out_channels={{_base_.decoder_channels}},
    freeze_backbone=False,
)
