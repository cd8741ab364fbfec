"""DOS on procedural rooms: the same run without the offset branch.

Without it there are no offsets to score, so that nothing is evaluated.

Row `dos` of the study (docs/study.md).
"""

_base_ = ["rooms-pretrain.py", "_base_/baseline.py"]

evaluate = False
model = dict(offset_branch=None)
hooks = {{_base_.baseline_hooks}}
