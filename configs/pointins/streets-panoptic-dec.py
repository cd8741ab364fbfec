"""Panoptic segmentation of procedural streets, decoder probing."""

_base_ = ["streets-panoptic-lin.py"]

model = dict(
    backbone={{_base_.decoder}},
    backbone_out_channels={{_base_.decoder_channels}},
    freeze_backbone=False,
)

optimizer = dict(lr=0.004)
scheduler = dict(max_lr=[0.004, 0.0004])
param_dicts = [dict(keyword="block", lr=0.0004)]
