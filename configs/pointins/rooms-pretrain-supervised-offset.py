"""DOS on procedural rooms beside true offsets: the ceiling of rooms-pretrain.

The same run, but for targets of the offset branch that come from labels.

Row `supervised-offset` of the study (docs/study.md).
"""

_base_ = ["rooms-pretrain.py"]

model = dict(type="LabelledPointINS")
