"""PointContrast (hardest-contrastive loss) on mOSD: the -nce run, other loss.

Row `pointcontrast-hardest` of the study (docs/study.md).
"""

_base_ = ["mosd-pretrain-pointcontrast-nce.py"]

model = dict(
    loss=dict(
        _delete_=True,
        type="HardestContrastiveLoss",
        positive_margin=0.1,
        negative_margin=1.4,
        num_pairs=1024,
        num_negatives=1024,
    ),
)
