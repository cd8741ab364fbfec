"""Sonata on ScanNet with a sparse-convolution U-Net: no offset branch."""

_base_ = ["scannet-pretrain-sonata-offset-spunet.py"]

model = dict(offset_branch=None)
