"""PointGroup on mOSD table tops, sparse U-Net from random weights."""

_base_ = ["mosd-insseg-ft-spunet.py"]

hooks = {{_base_.scratch_hooks}}
