"""Parts of PointContrast runs: augmentation of a view in a room, hooks.

Every view has a rotation and colours of its own, as in Pointcept's port; nothing is
scaled: the transforms are rigid but for the flips.
"""

contrast_view = [
    dict(type="TrackedAffine", rotate_p=1.0, scale=(1.0, 1.0)),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(
        type="RandomColorJitter",
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.02,
        p=0.8,
    ),
    dict(type="ChromaticJitter", p=0.95, std=0.05),
    dict(type="NormalizeColor"),
]
contrast_hooks = [
    dict(type="CheckpointLoader"),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CheckpointSaver"),
]
