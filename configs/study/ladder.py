"""The study: its data sets, sizes and rows, read by `pointins study`.

A row is a config of pre-training, DATA-pretrain-CONFIG, and changes of it; everything
else is the same for all rows. Keys are as in `--options`, but for `hooks.TYPE.key`,
which means the hook of that type, if there is one. Dictionaries under `replace` take
the place of the config's, those under `change` are merged into them. A config of None
starts from random weights.
"""

# What is kept small in every run. One that a machine has time for can be trained
# longer by another size.
sizes = dict(
    small=dict(
        pretraining=dict(
            mosd={"batch_size": 1, "epoch": 10, "eval_epoch": 2},
            rooms={
                "epoch": 4,
                "eval_epoch": 2,
                "data.train.num_scenes": 120,
                "data.val.num_scenes": 12,
            },
            streets={
                "epoch": 6,
                "eval_epoch": 2,
                "data.train.num_scenes": 80,
                "data.val.num_scenes": 8,
            },
        ),
        probing=dict(
            mosd={"epoch": 10, "eval_epoch": 2},
            rooms={
                "epoch": 4,
                "eval_epoch": 2,
                "data.train.num_scenes": 120,
                "data.val.num_scenes": 12,
            },
            streets={
                "epoch": 6,
                "eval_epoch": 2,
                "data.train.num_scenes": 80,
                "data.val.num_scenes": 8,
            },
        ),
        probe_scenes=24,
    ),
    quick=dict(
        pretraining=dict(
            mosd={"batch_size": 2, "epoch": 1, "eval_epoch": 1},
            rooms={
                "epoch": 1,
                "eval_epoch": 1,
                "data.train.num_scenes": 6,
                "data.val.num_scenes": 2,
            },
            streets={
                "epoch": 1,
                "eval_epoch": 1,
                "data.train.num_scenes": 6,
                "data.val.num_scenes": 2,
            },
        ),
        probing=dict(
            mosd={"epoch": 1, "eval_epoch": 1},
            rooms={
                "epoch": 1,
                "eval_epoch": 1,
                "data.train.num_scenes": 8,
                "data.val.num_scenes": 2,
            },
            streets={
                "epoch": 1,
                "eval_epoch": 1,
                "data.train.num_scenes": 6,
                "data.val.num_scenes": 2,
            },
        ),
        probe_scenes=4,
    ),
)
pretraining = {"hooks.LabelFreeInstanceEvaluator.every": 0, "num_worker": 0}
pretraining_hooks = []
probing = {"num_worker": 0, "test": None, "batch_size": 1}
probing_hooks = [dict(type="NormMomentum", momentum=0.1)]
linear = {}
tuning = {}

data = dict(
    rooms=dict(title="Procedural rooms", instances="insseg", scene=0),
    mosd=dict(title="mOSD, real table tops", instances="insseg", scene=23),
    streets=dict(title="Procedural streets", instances="panoptic", scene=0),
)

seeds = dict(ladder=(0, 1, 2), ablations=(0, 1))

ladder = dict(
    data=("rooms", "mosd", "streets"),
    rows={
        "scratch": dict(title="from scratch", config=None),
        "pointcontrast-nce": dict(
            title="PointContrast (InfoNCE)", config="pointcontrast-nce"
        ),
        "sonata": dict(title="Sonata", config="sonata"),
        "dos": dict(title="DOS", config="dos"),
        "offset-only": dict(
            title="DOS + offset, not regularized",
            config="",
            change={"model.offset_branch.odr": None, "model.offset_branch.scr": None},
        ),
        "pointins-paper": dict(title="PointINS, *paper* preset", config="paper"),
        "pointins-spatial": dict(title="PointINS, *spatial* preset", config=""),
        "supervised-offset": dict(
            title="true offsets (ceiling)", config="supervised-offset"
        ),
    },
)

branch = "model.offset_branch"
ablations = dict(
    data=("mosd",),
    rows={
        # the component table
        "odr-only": dict(title="+ ODR only", config="", change={f"{branch}.scr": None}),
        "scr-only": dict(title="+ SCR only", config="", change={f"{branch}.odr": None}),
        "scr-before-odr": dict(
            title="SCR before ODR",
            config="",
            change={branch: dict(order=("scr", "odr"))},
        ),
        "odr-student": dict(
            title="ODR on the student",
            config="",
            change={f"{branch}.odr.mode": "distribution"},
        ),
        "pointins-sonata": dict(title="PointINS on Sonata", config="sonata-offset"),
        "pointcontrast-hardest": dict(
            title="PointContrast (hardest)", config="pointcontrast-hardest"
        ),
        # the spatial preset, each choice undone
        "graph-centre": dict(
            title="graph of centres",
            config="",
            change={f"{branch}.scr.graph": "centre"},
        ),
        "segments-kmeans": dict(
            title="k-means segments",
            config="",
            change={f"{branch}.scr.segments": "kmeans"},
        ),
        "radius-paper": dict(
            title="radius 1.5 tokens", config="", change={f"{branch}.scr.radius": 1.5}
        ),
        "min-size-paper": dict(
            title="pseudo-instances from 5 tokens",
            config="",
            change={f"{branch}.scr.min_size": 5},
        ),
        "keep-huge": dict(
            title="huge ones kept", config="", change={f"{branch}.scr.drop_huge": None}
        ),
        "fall-back": dict(
            title="falls back to ODR",
            config="",
            change={f"{branch}.scr.fallback": "odr"},
        ),
        "planes-in": dict(
            title="planes take part",
            config="",
            change={f"{branch}.scr.exclude_planes": False},
        ),
        "no-relative-position": dict(
            title="no relative position",
            config="",
            change={f"{branch}.relative_position": False},
        ),
        # priors; the default is a gamma fitted by HDBSCAN after removing planes
        "prior-log-normal": dict(
            title="prior: log-normal of labels",
            config="",
            replace={
                f"{branch}.prior": dict(type="log_normal", median=0.071, sigma=0.56)
            },
        ),
        "prior-empirical": dict(
            title="prior: lengths of labels", config="", empirical_prior=True
        ),
        "prior-half": dict(
            title="prior halved",
            config="",
            change={f"{branch}.prior": dict(factor=0.5)},
        ),
        "prior-double": dict(
            title="prior doubled",
            config="",
            change={f"{branch}.prior": dict(factor=2.0)},
        ),
        # directions, ranking, tokens, backbones
        "direction-axis": dict(
            title="directions by axis",
            config="",
            change={f"{branch}.odr.direction": "axis"},
        ),
        "direction-random": dict(
            title="directions by random rotations",
            config="",
            change={f"{branch}.odr.direction": "random_rotation"},
        ),
        "rank-batch": dict(
            title="ranks over the batch",
            config="",
            change={f"{branch}.odr.scope": "batch"},
        ),
        "tokens-3cm": dict(
            title="tokens of 3 cm",
            config="",
            change={"model.up_cast_level": 2, "model.match_max_r": 0.03},
        ),
        "dos-spunet": dict(title="DOS, sparse U-Net", config="dos-spunet"),
        "pointins-spunet": dict(title="PointINS, sparse U-Net", config="spunet"),
    },
)
