"""Hooks of short teacher-student pre-training of a network with batch norms.

Those of `baseline.py`, and running statistics that follow in some ten steps. The
teacher normalizes by its own; at the host's momentum they are far from those of the
student's batches for some 300 steps, and its targets flat.
"""

baseline_hooks = [
    dict(type="CheckpointLoader"),
    dict(type="NormMomentum", momentum=0.1),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.98, momentum_final=0.999),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=50),
    dict(type="CheckpointSaver"),
]
