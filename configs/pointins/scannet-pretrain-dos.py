"""DOS on ScanNet: the same run without the offset branch."""

_base_ = ["scannet-pretrain.py"]

model = dict(offset_branch=None)
