"""The demo with the *paper* preset, the twin of demo-pretrain."""

_base_ = ["demo-pretrain.py", "_base_/paper.py"]

model = dict(offset_branch=dict(odr={{_base_.paper_odr}}, scr={{_base_.paper_scr}}))
