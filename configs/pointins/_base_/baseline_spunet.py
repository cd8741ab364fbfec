"""Hooks of short teacher-student pre-training of a network with batch norms.

Those of `baseline.py`, and a teacher that normalizes by its own batches. By the
student's running statistics, which at the host's momentum are far from those of its
batches for some 300 steps, its targets are nearly flat for half of such a run.
"""

baseline_hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(
        type="EMATeacherHook",
        momentum_base=0.98,
        momentum_final=0.999,
        own_norms=True,
    ),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=50),
    dict(type="CheckpointSaver"),
]
