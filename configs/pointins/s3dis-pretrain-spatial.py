"""PointINS on S3DIS with the *spatial* preset, the twin of s3dis-pretrain."""

_base_ = ["s3dis-pretrain.py", "_base_/spatial.py"]

model = dict(
    offset_branch=dict(odr={{_base_.spatial_odr}}, scr={{_base_.spatial_scr}}),
)
