"""PointINS on ScanNet with the *spatial* preset, the twin of scannet-pretrain."""

_base_ = ["scannet-pretrain.py", "_base_/spatial.py"]

model = dict(
    offset_branch=dict(odr={{_base_.spatial_odr}}, scr={{_base_.spatial_scr}}),
)
