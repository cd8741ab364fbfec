"""Backbones of small runs on LiDAR scans: the input is place and intensity."""

_base_ = ["ptv3_downstream_small.py"]

encoder = dict(in_channels=4)
