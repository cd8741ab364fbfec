"""Preset *spatial* outdoors, for LiDAR scans; docs/outdoor.md has what was measured.

Lengths of offsets have two modes there, pedestrians and cars, and the median lies
between them: a car reaches nearly four times the median, a thing on a table not twice.
Houses and trees are most of what is above the ground: ranked among their offsets,
those of things lose their length and neighbours their common centre, so that ODR
changes nothing here. Rings of a scan lie apart, so that edges may be longer.
"""

_base_ = ["spatial.py"]

spatial_odr = dict(magnitude=False)
spatial_scr = dict(radius=5.0, max_edge=2.5, drop_huge=3.6)
# what is excluded in place of planes, which would take the sides of cars; metres
spatial_ground = dict(height=0.2)
