"""DOS on SemanticKITTI: the same run without the offset branch."""

_base_ = ["semantickitti-pretrain.py"]

model = dict(offset_branch=None)
