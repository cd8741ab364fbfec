"""PointINS on streets with the *paper* preset, the twin of streets-pretrain.

Row `pointins-paper` of the study (docs/study.md).
"""

_base_ = ["streets-pretrain.py", "_base_/paper.py"]

model = dict(offset_branch=dict(odr={{_base_.paper_odr}}, scr={{_base_.paper_scr}}))
