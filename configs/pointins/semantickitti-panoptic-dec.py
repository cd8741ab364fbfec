"""Panoptic segmentation of SemanticKITTI, decoder probing: the encoder is frozen."""

_base_ = ["semantickitti-panoptic-lin.py"]

model = dict(
    backbone={{_base_.decoder}},
    backbone_out_channels={{_base_.decoder_channels}},
    freeze_backbone=False,
)
