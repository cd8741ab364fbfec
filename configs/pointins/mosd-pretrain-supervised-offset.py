"""DOS beside offsets taught by labels: what to compare mosd-pretrain with.

The same run, but for targets of the offset branch that come from labels.

Row `supervised-offset` of the study (docs/study.md).
"""

_base_ = ["mosd-pretrain.py"]

model = dict(type="LabelledPointINS")
