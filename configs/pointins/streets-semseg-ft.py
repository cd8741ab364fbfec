"""Classes on procedural streets, fine-tuning: all learns."""

_base_ = ["streets-semseg-dec.py"]

model = dict(backbone=dict(freeze_encoder=False))

# As random weights: so short a schedule ends early at the rates of long ones.
scheduler = dict(max_lr=[0.004, 0.004])
param_dicts = [dict(keyword="block", lr=0.004)]
