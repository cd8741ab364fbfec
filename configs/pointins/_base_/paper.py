"""Preset *paper*: PointINS as published. These are also the classes' own defaults."""

paper_odr = dict(
    type="ODRLoss",
    mode="target",
    direction="axis",
    magnitude=True,
    scope="cloud",
)
paper_scr = dict(
    type="SCRLoss",
    mode="target",
    graph="centre",
    segments="kmeans",
    num_segments=20,
    radius=1.5,
    max_edge=None,
    min_size=5,
    drop_huge=None,
    fallback="odr",
    exclude_planes=False,
)
