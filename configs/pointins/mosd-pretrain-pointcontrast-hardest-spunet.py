"""PointContrast (hardest-contrastive loss) on mOSD with a sparse U-Net."""

_base_ = ["mosd-pretrain-pointcontrast-nce-spunet.py"]

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
