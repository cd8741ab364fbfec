"""The same config, instance-aware: another type and the branch, nothing else."""

_base_ = ["sonata-rooms.py"]

model = dict(
    type="PointINS",
    offset_branch=dict(
        prior=dict(type="log_normal", median=0.42, sigma=0.66),
        odr=dict(type="ODRLoss"),
        scr=dict(type="SCRLoss"),
    ),
)
