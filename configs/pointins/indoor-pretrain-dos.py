"""DOS on several indoor data sets at once: the same run without the offset branch."""

_base_ = ["indoor-pretrain.py"]

model = dict(offset_branch=None)
