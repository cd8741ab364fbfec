"""Sonata on nuScenes: the same run without the offset branch."""

_base_ = ["nuscenes-pretrain-sonata-offset.py"]

model = dict(offset_branch=None)
