"""Sonata on mOSD table tops with a sparse-convolution U-Net: no offset branch.

Without it there are no offsets to score, so that nothing is evaluated.
"""

_base_ = ["mosd-pretrain-sonata-offset-spunet.py", "_base_/baseline_spunet.py"]

evaluate = False
model = dict(offset_branch=None)
hooks = {{_base_.baseline_hooks}}
