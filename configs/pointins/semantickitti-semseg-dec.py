"""Classes on SemanticKITTI, decoder probing: the encoder is frozen."""

_base_ = ["semantickitti-semseg-lin.py"]

model = dict(
    backbone={{_base_.decoder}},
    backbone_out_channels={{_base_.decoder_channels}},
    freeze_backbone=False,
)
