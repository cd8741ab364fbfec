"""What configs share: learning rates by block, transforms of downstream protocols.

The indoor protocols are Pointcept's (``configs/sonata``); what differs from data set
to data set is an argument. Values may be references to a base (``{{ _base_.name }}``):
they are passed on unread. A run's ``config.py`` shows the lists in full.
"""

from collections.abc import Sequence
from typing import Any

Transforms = list[dict[str, Any]]

_FEATURES = ("coord", "color", "normal")
_CROP = (dict(type="SphereCrop", sample_rate=0.8, mode="random"),)
_ELASTIC = ((0.2, 0.4), (0.8, 1.6))
_ORIGIN = dict(
    coord="origin_coord", segment="origin_segment", instance="origin_instance"
)


def decayed_by_block(
    lr: float, depths: Sequence[int] = (3, 3, 3, 12, 3), decay: float = 0.9
) -> list[dict[str, Any]]:
    """Return a group of parameters for each block of an encoder, as ``param_dicts``.

    Args:
        lr: of everything after the encoder; its last block has the same.
        depths: blocks of each stage.
        decay: factor from a block to the one before it.
    """
    names = [f"enc{s}.block{b}." for s, n in enumerate(depths) for b in range(n)]
    last = len(names) - 1
    return [
        dict(keyword=name, lr=lr * decay ** (last - index))
        for index, name in enumerate(names)
    ]


def augmentation(
    dropout_p: float,
    jitter: tuple[float, float] = (0.005, 0.02),
    elastic: tuple[tuple[float, float], ...] | None = _ELASTIC,
) -> Transforms:
    """Return the augmentation of a labelled indoor scene.

    Args:
        dropout_p: probability to drop a fifth of the points.
        jitter: standard deviation and clip, metres.
        elastic: (granularity, magnitude) of distortions, metres; None for none.
    """
    transforms = [
        dict(type="CenterShift", apply_z=True),
        dict(
            type="RandomDropout",
            dropout_ratio=0.2,
            dropout_application_ratio=dropout_p,
        ),
        dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.5),
        dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="x", p=0.5),
        dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="y", p=0.5),
        dict(type="RandomScale", scale=[0.9, 1.1]),
        dict(type="RandomFlip", p=0.5),
        dict(type="RandomJitter", sigma=jitter[0], clip=jitter[1]),
    ]
    if elastic is not None:
        params = [list(pair) for pair in elastic]
        transforms.append(dict(type="ElasticDistortion", distortion_params=params))
    return [
        *transforms,
        dict(type="ChromaticAutoContrast", p=0.2, blend_factor=None),
        dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
        dict(type="ChromaticJitter", p=0.95, std=0.05),
    ]


def _sample(grid_size: float, **options: Any) -> dict[str, Any]:
    return dict(
        type="GridSample",
        grid_size=grid_size,
        hash_type="fnv",
        mode="train",
        return_grid_coord=True,
        **options,
    )


def insseg_train(
    segment_ignore_index: Any,
    grid_size: float = 0.02,
    crops: tuple[dict, ...] = _CROP,
    **augment: Any,
) -> Transforms:
    """Return the transforms of a training scene for PointGroup.

    Args:
        segment_ignore_index: classes without instances.
        grid_size: metres.
        crops: transforms that limit the points.
        **augment: of ``augmentation``.
    """
    return [
        *augmentation(**{"dropout_p": 0.5, **augment}),
        _sample(grid_size),
        *(dict(crop) for crop in crops),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        _instances(segment_ignore_index),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=(
                "coord",
                "grid_coord",
                "segment",
                "instance",
                "instance_centroid",
                "bbox",
            ),
            feat_keys=_FEATURES,
        ),
    ]


def insseg_val(segment_ignore_index: Any, grid_size: float = 0.02) -> Transforms:
    """Return the transforms of a whole scene that instances are scored on.

    Arguments as in ``insseg_train``. Labels of the original points go along.
    """
    return [
        dict(type="CenterShift", apply_z=True),
        dict(type="Copy", keys_dict=dict(_ORIGIN)),
        _sample(grid_size),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        _instances(segment_ignore_index),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=(
                "coord",
                "grid_coord",
                "segment",
                "instance",
                *_ORIGIN.values(),
                "instance_centroid",
                "bbox",
                "name",
            ),
            feat_keys=_FEATURES,
            offset_keys_dict=dict(offset="coord", origin_offset="origin_coord"),
        ),
    ]


def _instances(segment_ignore_index: Any) -> dict[str, Any]:
    return dict(
        type="InstanceParser",
        segment_ignore_index=segment_ignore_index,
        instance_ignore_index=-1,
    )


def semseg_train(
    grid_size: float = 0.02, crops: tuple[dict, ...] = (), **augment: Any
) -> Transforms:
    """Return the transforms of a training scene; arguments as in ``insseg_train``."""
    return [
        *augmentation(**{"dropout_p": 1.0, **augment}),
        _sample(grid_size),
        *(dict(crop) for crop in crops),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=("coord", "grid_coord", "segment"),
            feat_keys=_FEATURES,
        ),
    ]


def semseg_val(grid_size: float = 0.02) -> Transforms:
    """Return the transforms of a whole scene whose original points are scored."""
    return [
        dict(type="CenterShift", apply_z=True),
        dict(type="Copy", keys_dict=dict(segment="origin_segment")),
        _sample(grid_size, return_inverse=True),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=("coord", "grid_coord", "segment", "origin_segment", "inverse"),
            feat_keys=_FEATURES,
        ),
    ]


def semseg_test(
    grid_size: float = 0.02, thin: float | None = None, augment: bool = True
) -> dict[str, Any]:
    """Return the transform and ``test_cfg`` of the precise test.

    Every point of a scene is predicted in fragments.

    Args:
        grid_size: metres.
        thin: grid that very dense scenes are thinned to first, metres.
        augment: let four rotations at three scales and a flip vote, not the scene
            alone.
    """
    transform = [dict(type="CenterShift", apply_z=True), dict(type="NormalizeColor")]
    if thin is not None:
        transform += [
            dict(type="Copy", keys_dict=dict(segment="origin_segment")),
            dict(
                type="GridSample",
                grid_size=thin,
                hash_type="fnv",
                mode="train",
                return_inverse=True,
            ),
        ]
    views = []
    for scale in (1.0, 0.95, 1.05):
        for angle in (0, 1 / 2, 1, 3 / 2):
            view: Transforms = [
                dict(
                    type="RandomRotateTargetAngle",
                    angle=[angle],
                    axis="z",
                    center=[0, 0, 0],
                    p=1,
                )
            ]
            if scale != 1:
                view.append(dict(type="RandomScale", scale=[scale, scale]))
            views.append(view)
    views.append([dict(type="RandomFlip", p=1)])
    if not augment:
        views = views[:1]  # no turn at all
    return dict(
        transform=transform,
        test_mode=True,
        test_cfg=dict(
            voxelize=dict(
                type="GridSample",
                grid_size=grid_size,
                hash_type="fnv",
                mode="test",
                return_grid_coord=True,
            ),
            crop=None,
            post_transform=[
                dict(type="CenterShift", apply_z=False),
                dict(type="ToTensor"),
                dict(
                    type="Collect",
                    keys=("coord", "grid_coord", "index"),
                    feat_keys=_FEATURES,
                ),
            ],
            aug_transform=views,
        ),
    )
