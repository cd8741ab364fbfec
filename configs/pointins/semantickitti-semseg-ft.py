"""Classes on SemanticKITTI, fine-tuning: all of the network learns."""

_base_ = ["semantickitti-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))
