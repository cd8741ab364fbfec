"""The study: its data sets, sizes and rows, read by `pointins study`.

A row is a config of pre-training, DATA-pretrain-CONFIG, and changes of it; everything
else is the same for all rows. Keys are as in `--options`, but for `hooks.TYPE.key`,
which means the hook of that type, if there is one. Dictionaries under `replace` take
the place of the config's, those under `change` are merged into them. A config of None
starts from random weights. Differences are taken to DOS, or to the row `beside`.
"""

# `small`: a training run is made for six minutes of two cores (docs/study.md has those
# that took longer). `quick`: a smoke run.
# `narrow`, `wide`: as `small`, with networks of half and twice the widths, to see what
# hangs on the size of the network; runs of `wide` take two to three times as long.
# `large`: ten times the tokens and steps and Sonata's width, for one modern GPU.
# Heads that are trained take two scenes a step, so that there are hundreds of steps,
# and higher rates: at the configs' rates a short probe is not at its end, and then a
# random backbone does as well as any. The linear head of classes takes the highest: on
# streets it goes from an mIoU of 43 to 53 in 240 steps, and what limits instances is
# their class. Rates were chosen on training scenes. The whole network is tuned for
# three times as long: its decoder is new, and at 260 steps AP on left-out training
# scenes of mOSD is 34, at 780 it is 52, at other rates less.
class_head = {"param_dicts": [dict(keyword="seg_head", lr=0.1)]}
class_rate = {"scheduler.max_lr": [0.1, 0.01]}
# Rooms of evaluation have layouts and furniture that no room of training has: every
# class is split by style (straight sofas are trained on, those with a chaise tested)
# or by proportions, for pre-training and probes alike; see datasets/room_shapes.py.
rooms_of = {
    name: {
        "data.train.num_scenes": train,
        "data.train.shapes": "seen",
        "data.val.num_scenes": val,
        "data.val.shapes": "held_out",
    }
    for name, train, val in (("small", 120, 12), ("quick", 6, 2), ("large", 1200, 60))
}
streets_of = {
    name: {"data.train.num_scenes": train, "data.val.num_scenes": val}
    for name, train, val in (("small", 80, 8), ("quick", 4, 2), ("large", 800, 40))
}
once = {"epoch": 1, "eval_epoch": 1}
quick_stages = dict(
    pretraining=once, instances=once, semantics=once, tuning={**once, "batch_size": 2}
)
large = {"enable_amp": True, "amp_dtype": "bfloat16", "batch_size": 10}
large_stages = dict(
    pretraining={**large, "epoch": 40, "eval_epoch": 10},
    instances={**large, "epoch": 40, "eval_epoch": 4},
    semantics={**large, "epoch": 20, "eval_epoch": 2},
    tuning={**large, "epoch": 20, "eval_epoch": 2},
)
sizes = dict(
    small=dict(
        mosd=dict(
            shared={},
            pretraining={"batch_size": 1, "epoch": 10, "eval_epoch": 2},
            instances={
                "batch_size": 2,
                "epoch": 20,
                "eval_epoch": 2,
                "scheduler.max_lr": [0.006, 0.1],
                **class_head,
            },
            semantics={"batch_size": 2, "epoch": 12, "eval_epoch": 2, **class_rate},
            tuning={
                "batch_size": 2,
                "epoch": 30,
                "eval_epoch": 1,
                "mix_prob": 0,
            },
        ),
        rooms=dict(
            shared=rooms_of["small"],
            pretraining={"epoch": 4, "eval_epoch": 2},
            linear={"data.val.num_scenes": 36},
            instances={
                "batch_size": 2,
                "epoch": 8,
                "eval_epoch": 2,
                "scheduler.max_lr": [0.006, 0.1],
                **class_head,
            },
            semantics={"batch_size": 2, "epoch": 4, "eval_epoch": 2, **class_rate},
            tuning={
                "batch_size": 2,
                "epoch": 12,
                "eval_epoch": 1,
                "mix_prob": 0,
            },
        ),
        streets=dict(
            shared=streets_of["small"],
            pretraining={"epoch": 6, "eval_epoch": 2},
            linear={"data.val.num_scenes": 24},
            instances={
                "batch_size": 2,
                "epoch": 6,
                "eval_epoch": 2,
                "scheduler.max_lr": [0.01, 0.1],
                **class_head,
            },
            semantics={"batch_size": 2, "epoch": 6, "eval_epoch": 2, **class_rate},
            tuning={
                "batch_size": 2,
                "epoch": 12,
                "eval_epoch": 1,
                "mix_prob": 0,
            },
        ),
    ),
    quick=dict(
        mosd=dict(shared={}, **quick_stages),
        rooms=dict(shared=rooms_of["quick"], **quick_stages),
        streets=dict(shared=streets_of["quick"], **quick_stages),
    ),
    large=dict(
        mosd=dict(shared={"data.train.loop": 20}, **large_stages),
        rooms=dict(shared=rooms_of["large"], **large_stages),
        streets=dict(shared=streets_of["large"], **large_stages),
    ),
)
sizes["narrow"] = sizes["wide"] = sizes["small"]
del rooms_of, streets_of, once, quick_stages, large, large_stages
del class_head, class_rate

# Networks that differ from the configs': of the rows' own backbone and of the sparse
# one. `shared` is for all stages of a run, `frozen` for probes of a frozen backbone.
networks = dict(
    narrow=dict(
        ptv3=dict(
            shared={
                "model.backbone": dict(
                    enc_channels=(16, 32, 64, 64), enc_num_head=(1, 2, 4, 4)
                )
            },
            frozen={"model.backbone_out_channels": 176},
        ),
        spunet=dict(
            shared={
                "model.backbone": dict(
                    base_channels=16, channels=(16, 32, 64, 64, 48, 32)
                )
            },
            pretraining={"model.head_in_channels": 32},
            frozen={"model.backbone_out_channels": 32},
        ),
    ),
    wide=dict(
        ptv3=dict(
            shared={
                "model.backbone": dict(
                    enc_channels=(64, 128, 256, 256), enc_num_head=(4, 8, 16, 16)
                )
            },
            frozen={"model.backbone_out_channels": 704},
        ),
        spunet=dict(
            shared={
                "model.backbone": dict(
                    base_channels=64, channels=(64, 128, 256, 256, 192, 128)
                )
            },
            pretraining={"model.head_in_channels": 128},
            frozen={"model.backbone_out_channels": 128},
        ),
    ),
    large=dict(
        ptv3=dict(
            shared={
                "model.backbone": dict(
                    enc_depths=(3, 3, 12, 3),
                    enc_channels=(48, 96, 192, 384),
                    enc_num_head=(3, 6, 12, 24),
                    enc_patch_size=(1024, 1024, 1024, 1024),
                    mlp_ratio=4,
                )
            },
            frozen={"model.backbone_out_channels": 720},
        ),
        spunet=dict(
            shared={
                "model.backbone": dict(
                    base_channels=32,
                    channels=(32, 64, 128, 256, 256, 128, 96, 96),
                    layers=(2, 3, 4, 6, 2, 2, 2, 2),
                )
            },
            pretraining={"model.head_in_channels": 96},
            frozen={"model.backbone_out_channels": 96},
        ),
    ),
)

# for every run of a kind
pretraining = {"hooks.LabelFreeInstanceEvaluator.every": 0, "num_worker": 0}
probing = {"num_worker": 0, "test": None}
probing_hooks = [dict(type="NormMomentum", momentum=0.1)]

data = dict(
    rooms=dict(title="Procedural rooms", instances="insseg", scene=0),
    mosd=dict(title="mOSD, real table tops", instances="insseg", scene=23),
    streets=dict(title="Procedural streets", instances="panoptic", scene=0),
)

# The linear probe, which nothing is trained for, with all seeds. Fine-tuning, and heads
# trained on frozen backbones where they are asked for, with the last alone.
seeds = dict(ladder=(0, 1, 2), ablations=(0, 1), trained=(2,))

ladder = dict(
    data=("rooms", "mosd", "streets"),
    rows={
        "scratch": dict(title="no pre-training", config=None),
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
        "pointins-sonata": dict(
            title="PointINS on Sonata", config="sonata-offset", beside="sonata"
        ),
        "supervised-offset": dict(
            title="true offsets as targets", config="supervised-offset"
        ),
    },
)

branch = "model.offset_branch"
whole = dict(config="", beside="pointins-spatial")  # with one thing changed
ablations = dict(
    data=("mosd",),
    rows={
        # the other of PointContrast's losses
        "pointcontrast-hardest": dict(
            title="PointContrast (hardest)", config="pointcontrast-hardest"
        ),
        # a contrast of places as the semantic objective, and the branch on it
        "contrast": dict(title="contrast with a teacher", config="contrast"),
        "pointins-contrast": dict(
            title="PointINS on contrast", config="contrast-offset", beside="contrast"
        ),
        # the component table: what is added to DOS
        "odr-only": dict(
            title="+ ODR only",
            config="",
            change={branch: dict(scr=None, exclude_planes=True)},
        ),
        "scr-only": dict(title="+ SCR only", config="", change={f"{branch}.odr": None}),
        # the whole method, and what it gains or loses by a change
        "scr-before-odr": dict(
            title="SCR before ODR",
            **whole,
            change={branch: dict(order=("scr", "odr"))},
        ),
        "odr-student": dict(
            title="ODR on the student",
            **whole,
            change={f"{branch}.odr.mode": "distribution"},
        ),
        # the spatial preset, each choice undone
        "graph-centre": dict(
            title="graph of centres",
            **whole,
            change={f"{branch}.scr.graph": "centre"},
        ),
        "segments-kmeans": dict(
            title="k-means segments",
            **whole,
            change={f"{branch}.scr.segments": "kmeans"},
        ),
        "radius-paper": dict(
            title="radius 1.5 tokens", **whole, change={f"{branch}.scr.radius": 1.5}
        ),
        "edge-paper": dict(
            title="edges of any length",
            **whole,
            change={f"{branch}.scr.max_edge": None},
        ),
        "min-size-paper": dict(
            title="pseudo-instances from 5 tokens",
            **whole,
            change={f"{branch}.scr.min_size": 5},
        ),
        "keep-huge": dict(
            title="huge ones kept", **whole, change={f"{branch}.scr.drop_huge": None}
        ),
        "fall-back": dict(
            title="falls back to ODR",
            **whole,
            change={f"{branch}.scr.fallback": "odr"},
        ),
        "planes-in": dict(
            title="planes take part",
            **whole,
            change={f"{branch}.scr.exclude_planes": False},
        ),
        "no-relative-position": dict(
            title="no relative position",
            **whole,
            change={f"{branch}.relative_position": False},
        ),
        # more of the branch in the sum of losses than in the paper
        "weight-one": dict(
            title="branch weighs 1",
            **whole,
            change={f"{branch}.loss_weight": 1.0},
        ),
        # priors; the default is a gamma fitted by HDBSCAN after removing planes
        "prior-log-normal": dict(
            title="prior: log-normal of labels",
            **whole,
            replace={
                f"{branch}.prior": dict(type="log_normal", median=0.071, sigma=0.56)
            },
        ),
        "prior-empirical": dict(
            title="prior: lengths of labels", **whole, empirical_prior=True
        ),
        "prior-half": dict(
            title="prior halved",
            **whole,
            change={f"{branch}.prior": dict(factor=0.5)},
        ),
        "prior-double": dict(
            title="prior doubled",
            **whole,
            change={f"{branch}.prior": dict(factor=2.0)},
        ),
        "prior-double-lengths": dict(
            title="prior doubled, the limit as it was",
            **whole,
            change={
                f"{branch}.prior": dict(factor=2.0),
                f"{branch}.scr.drop_huge": 1.0,
            },
        ),
        # directions, ranking, tokens, backbones
        "direction-axis": dict(
            title="directions by axis",
            **whole,
            change={f"{branch}.odr.direction": "axis"},
        ),
        "direction-random": dict(
            title="directions by random rotations",
            **whole,
            change={f"{branch}.odr.direction": "random_rotation"},
        ),
        "rank-batch": dict(
            title="ranks over the batch",
            **whole,
            change={f"{branch}.odr.scope": "batch"},
        ),
        "tokens-3cm": dict(
            title="tokens of 3 cm",
            **whole,
            change={"model.up_cast_level": 2, "model.match_max_r": 0.03},
        ),
        "dos-spunet": dict(title="DOS, sparse U-Net", config="dos-spunet"),
        "pointins-spunet": dict(
            title="PointINS, sparse U-Net", config="spunet", beside="dos-spunet"
        ),
    },
)
del whole
