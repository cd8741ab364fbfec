"""PointGroup on procedural rooms from random weights, for comparison.

Row `scratch` of the study (docs/study.md) is fine-tuned by this.
"""

_base_ = ["rooms-insseg-ft.py"]

hooks = {{_base_.scratch_hooks}}
