"""Sonata on ScanNet: the same run without the offset branch."""

_base_ = ["scannet-pretrain-sonata-offset.py"]

model = dict(offset_branch=None)
