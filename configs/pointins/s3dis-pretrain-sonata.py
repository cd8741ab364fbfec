"""Sonata on S3DIS: the same run without the offset branch."""

_base_ = ["s3dis-pretrain-sonata-offset.py"]

model = dict(offset_branch=None)
