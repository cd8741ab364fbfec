"""Preset *spatial*: precise targets, for data and networks that are small."""

spatial_odr = dict(
    type="ODRLoss",
    mode="target",
    direction="none",
    magnitude=True,
    scope="cloud",
)
spatial_scr = dict(
    type="SCRLoss",
    mode="target",
    graph="spatial",
    segments="none",
    num_segments=20,
    radius=6.0,
    max_edge=1.8,
    min_size=20,
    drop_huge=2.0,
    fallback="none",
    exclude_planes=True,
)
