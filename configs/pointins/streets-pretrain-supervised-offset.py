"""DOS on procedural streets with true offsets: the ceiling of streets-pretrain.

The same run, but for targets of the offset branch that come from labels.

Row `supervised-offset` of the study (docs/study.md).
"""

_base_ = ["streets-pretrain.py"]

model = dict(type="LabelledPointINS")
