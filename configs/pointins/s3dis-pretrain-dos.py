"""DOS on S3DIS: the same run without the offset branch."""

_base_ = ["s3dis-pretrain.py"]

model = dict(offset_branch=None)
