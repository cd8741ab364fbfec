"""Sonata on S3DIS without Area 5 with a sparse-convolution U-Net: no offset branch."""

_base_ = ["s3dis-pretrain-sonata-offset-spunet.py"]

model = dict(offset_branch=None)
