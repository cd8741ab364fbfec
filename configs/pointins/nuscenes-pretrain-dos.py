"""DOS on nuScenes: the same run without the offset branch."""

_base_ = ["nuscenes-pretrain.py"]

model = dict(offset_branch=None)
