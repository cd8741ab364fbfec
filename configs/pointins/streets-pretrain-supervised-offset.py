"""DOS beside offsets taught by labels: what to compare streets-pretrain with.

The same run, but for targets of the offset branch that come from labels.

Row `supervised-offset` of the study (docs/study.md).
"""

_base_ = ["streets-pretrain.py"]

model = dict(type="LabelledPointINS")
