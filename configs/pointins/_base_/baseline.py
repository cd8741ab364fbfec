"""Hooks of small runs without an offset branch."""

baseline_hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="EMATeacherHook", momentum_base=0.98, momentum_final=0.999),
    dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.2),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", every=50),
    dict(type="CheckpointSaver"),
]
