"""PointINS on procedural rooms, the demo grown to about ten minutes on two CPU cores.

Network, preset and schedule are the demo's; there are more rooms.

Row `pointins-spatial` of the study (docs/study.md).
"""

_base_ = ["demo-pretrain.py"]

data = dict(train=dict(num_scenes=150), val=dict(num_scenes=12))
