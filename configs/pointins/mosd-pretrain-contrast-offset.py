"""PointINS on mOSD with a contrast of places in place of DOS's softmaps.

All but the objective is as in mosd-pretrain. InfoNCE is tens of times as large
as what it stands in for, so that the branch weighs 1.

Row `pointins-contrast` of the study (docs/study.md).
"""

_base_ = ["mosd-pretrain.py"]

model = dict(
    semantic=dict(
        _delete_=True,
        type="ContrastObjective",
        loss=dict(type="PointInfoNCELoss", temperature=0.07, num_pairs=1024),
    ),
    offset_branch=dict(loss_weight=1.0),
)
