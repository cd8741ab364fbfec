"""DOS on mOSD beside true offsets: the ceiling of mosd-pretrain.

The same run, but for targets of the offset branch that come from labels.
"""

_base_ = ["mosd-pretrain.py"]

model = dict(type="LabelledPointINS")
