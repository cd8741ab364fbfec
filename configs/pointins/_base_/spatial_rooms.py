"""Preset *spatial* for furnished rooms, whose things differ in size.

A sofa reaches more than two medians of the prior. On table tops pseudo-instances that
reach so far are neighbours that touch; docs/decisions.md has what was measured.
"""

_base_ = ["spatial.py"]

spatial_scr = dict(drop_huge=2.5)
