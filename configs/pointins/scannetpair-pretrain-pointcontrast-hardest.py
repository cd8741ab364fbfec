"""PointContrast (hardest-contrastive loss) as published: the -nce run, other loss."""

_base_ = ["scannetpair-pretrain-pointcontrast-nce.py"]

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

base_lr = 0.1
optimizer = dict(lr=base_lr)
scheduler = dict(max_lr=base_lr)
