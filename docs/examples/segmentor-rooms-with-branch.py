"""The same config with offsets to instance centres as an auxiliary task."""

_base_ = ["segmentor-rooms.py"]

model = dict(
    type="OffsetAuxSegmentor",
    offset_branch=dict(
        prior=dict(type="log_normal", median=0.42, sigma=0.66),
        odr=dict(type="ODRLoss"),
        scr=dict(type="SCRLoss"),
    ),
)
hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="SemSegEvaluator"),
    dict(
        type="LabelFreeInstanceEvaluator",
        radius=0.06,
        baseline_radius=0.12,
        bandwidth=0.17,
        planes=dict(threshold=0.048, min_share=0.05),
        smoothing=dict(rounds=2, num_neighbours=11, reach=0.24),
        every=0,
    ),
    dict(type="CheckpointSaver"),
]
