"""PointINS on procedural rooms with the *paper* preset, the twin of rooms-pretrain.

Row `pointins-paper` of the study (docs/study.md).
"""

_base_ = ["rooms-pretrain.py", "_base_/paper.py"]

model = dict(offset_branch=dict(odr={{_base_.paper_odr}}, scr={{_base_.paper_scr}}))
