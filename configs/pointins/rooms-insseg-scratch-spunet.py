"""PointGroup on procedural rooms, sparse U-Net from random weights."""

_base_ = ["rooms-insseg-ft-spunet.py"]

hooks = {{_base_.scratch_hooks}}
