"""Preset *spatial* outdoors, for LiDAR scans.

Lengths of offsets have two modes there, pedestrians and cars, and the median lies
between them: the reach of a car is nearly four times the median, that of one table top
object not twice.
"""

_base_ = ["spatial.py"]

spatial_scr = dict(drop_huge=3.6)
# what is excluded in place of planes, which would take the sides of cars; metres
spatial_ground = dict(height=0.2)
