"""DOS on ScanNet on one GPU: the same run without the offset branch."""

_base_ = ["scannet-pretrain-1gpu.py"]

model = dict(offset_branch=None)
