"""Backbones of paper-scale runs on LiDAR scans: the input is place and intensity."""

_base_ = ["ptv3_downstream.py"]

encoder = dict(in_channels=4)
