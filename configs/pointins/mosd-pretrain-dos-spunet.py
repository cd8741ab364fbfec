"""DOS on mOSD table tops with a small sparse-convolution U-Net: no offset branch.

Without it there are no offsets to score, so that nothing is evaluated.

Row `dos-spunet` of the study (docs/study.md).
"""

_base_ = ["mosd-pretrain-spunet.py", "_base_/baseline_spunet.py"]

evaluate = False
model = dict(offset_branch=None)
hooks = {{_base_.baseline_hooks}}
