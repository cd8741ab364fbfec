"""DOS on streets: the same run without the offset branch.

Without it there are no offsets to score, so that nothing is evaluated.
"""

_base_ = ["streets-pretrain.py", "_base_/baseline.py"]

evaluate = False
model = dict(offset_branch=None)
hooks = {{_base_.baseline_hooks}}
