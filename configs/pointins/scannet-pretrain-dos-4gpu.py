"""DOS on ScanNet on four GPUs: the same run without the offset branch."""

_base_ = ["scannet-pretrain-4gpu.py"]

model = dict(offset_branch=None)
