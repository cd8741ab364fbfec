"""PointContrast (hardest-contrastive loss) on S3DIS with a sparse U-Net."""

_base_ = ["s3dis-pretrain-pointcontrast-nce-spunet.py"]

model = dict(
    loss=dict(
        _delete_=True,
        type="HardestContrastiveLoss",
        positive_margin=0.1,
        negative_margin=1.4,
        num_pairs=4096,
        num_negatives=2048,
    ),
)
