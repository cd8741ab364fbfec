"""PointContrast (hardest-contrastive loss) on rooms: the -nce run, other loss."""

_base_ = ["rooms-pretrain-pointcontrast-nce.py"]

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
