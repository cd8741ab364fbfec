"""A contrast of places on procedural streets, without an offset branch.

All else is as in streets-pretrain-contrast-offset. Without the branch there are no
offsets to score, so that nothing is evaluated.

Row `contrast` of the study (docs/study.md).
"""

_base_ = ["streets-pretrain-contrast-offset.py", "_base_/baseline.py"]

evaluate = False
model = dict(offset_branch=None)
hooks = {{_base_.baseline_hooks}}
