"""DOS on S3DIS with a sparse-convolution U-Net: no offset branch."""

_base_ = ["s3dis-pretrain-spunet.py"]

model = dict(offset_branch=None)
