"""Transforms of the outdoor protocols, as lists for configs.

Points keep the place the sensor saw them in, height above ground and distance, unless a
data set's config says otherwise; the input is place and intensity. Values may be
references to a base (``{{ _base_.name }}``): they are passed on unread.
"""

from collections.abc import Sequence
from typing import Any

Transforms = list[dict[str, Any]]

FEATURES = ("coord", "strength")
_ORIGIN = dict(segment="origin_segment", instance="origin_instance")


def pretrain(
    grid_size: float,
    max_size: int,
    crop: dict | None = None,
    scale: tuple[float, float] = (0.4, 1.0),
    local_views: int = 0,
    even_range: float | None = 5.0,
    jitter: tuple[float, float] = (0.01, 0.04),
) -> Transforms:
    """Return the transforms of an unlabelled scan: two global views, and local ones.

    Args:
        grid_size: metres.
        max_size: points of a view at most.
        crop: transform that limits the scan first.
        scale: range of a global view's share of ``max_size``.
        local_views: their number.
        even_range: rings that centres of views are drawn from alike, metres.
        jitter: standard deviation and clip, metres.
    """
    view = [
        dict(type="TrackedAffine", center="origin"),
        dict(type="RandomJitter", sigma=jitter[0], clip=jitter[1]),
    ]
    local = local_views > 0
    local_keys = ("local_origin_coord", "local_coord", "local_offset") * local
    collect: dict[str, Any] = dict(
        type="Collect",
        keys=(
            "global_origin_coord",
            "global_coord",
            "global_offset",
            "global_affine",
            *local_keys,
            "grid_size",
            "name",
        ),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_strength"),
    )
    views: dict[str, Any] = dict(
        type="TrackedMultiViewGenerator",
        view_keys=("coord", "origin_coord", "strength"),
        global_view_num=2,
        global_view_scale=scale,
        local_view_num=local_views,
        global_transform=view,
        max_size=max_size,
        even_range=even_range,
    )
    if local:
        collect["local_feat_keys"] = ("local_coord", "local_strength")
        views.update(local_view_scale=(0.1, 0.4), local_transform=view)
    return [
        *([crop] if crop else []),
        dict(type="GridSample", grid_size=grid_size, hash_type="fnv", mode="train"),
        dict(type="Copy", keys_dict=dict(coord="origin_coord")),
        views,
        dict(type="ToTensor"),
        dict(type="Update", keys_dict=dict(grid_size=grid_size)),
        collect,
    ]


def augmentation(jitter: tuple[float, float] = (0.005, 0.02)) -> Transforms:
    """Return the augmentation of a labelled scan: about the sensor, never its height.

    Args:
        jitter: standard deviation and clip, metres.

    Source: Pointcept's ``configs/nuscenes/semseg-pt-v3m1-0-base``.
    """
    return [
        dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.5),
        dict(type="RandomScale", scale=[0.9, 1.1]),
        dict(type="RandomFlip", p=0.5),
        dict(type="RandomJitter", sigma=jitter[0], clip=jitter[1]),
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


def panoptic_train(
    segment_ignore_index: Any,
    grid_size: float = 0.05,
    before: Transforms = (),
    crops: Transforms = (),
    **augment: Any,
) -> Transforms:
    """Return the transforms of a training scan for PointGroupPanoptic.

    Args:
        segment_ignore_index: classes without instances.
        grid_size: metres.
        before: transforms that limit or move the scan first.
        crops: transforms that limit the points after sampling.
        **augment: of ``augmentation``.
    """
    return [
        *before,
        *augmentation(**augment),
        _sample(grid_size),
        *crops,
        dict(type="ThingInstances", segment_ignore_index=segment_ignore_index),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=("coord", "grid_coord", "segment", "instance", "instance_centroid"),
            feat_keys=FEATURES,
        ),
    ]


def panoptic_val(
    segment_ignore_index: Any,
    grid_size: float = 0.05,
    before: Transforms = (),
    raw_labels: bool = False,
) -> Transforms:
    """Return the transforms of a scan whose original points are all scored.

    Args:
        segment_ignore_index, grid_size, before: as in ``panoptic_train``.
        raw_labels: the scans have ``panoptic``, and their segments are counted by it.
    """
    origin = dict(_ORIGIN)
    if raw_labels:
        origin["panoptic"] = "origin_panoptic"
    return [
        *before,
        dict(type="Copy", keys_dict=origin),
        _sample(grid_size, return_inverse=True),
        dict(type="ThingInstances", segment_ignore_index=segment_ignore_index),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=(
                "coord",
                "grid_coord",
                "segment",
                "instance",
                "instance_centroid",
                *origin.values(),
                "inverse",
                "name",
            ),
            feat_keys=FEATURES,
            offset_keys_dict=dict(offset="coord", origin_offset="origin_segment"),
        ),
    ]


def semseg_train(
    grid_size: float = 0.05,
    before: Transforms = (),
    crops: Transforms = (),
    **augment: Any,
) -> Transforms:
    """Return the transforms of a training scan; arguments as in ``panoptic_train``."""
    return [
        *before,
        *augmentation(**augment),
        _sample(grid_size),
        *crops,
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=("coord", "grid_coord", "segment"),
            feat_keys=FEATURES,
        ),
    ]


def semseg_val(grid_size: float = 0.05, before: Transforms = ()) -> Transforms:
    """Return the transforms of a scan whose original points are all scored."""
    return [
        *before,
        dict(type="Copy", keys_dict=dict(segment="origin_segment")),
        _sample(grid_size, return_inverse=True),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=(
                "coord",
                "grid_coord",
                "segment",
                "origin_segment",
                "inverse",
                "name",
            ),
            feat_keys=FEATURES,
        ),
    ]


def semseg_test(
    grid_size: float = 0.05,
    before: Transforms = (),
    scales: Sequence[float] = (0.9, 0.95, 1.0, 1.05, 1.1),
    mirrors: Sequence[bool] = (False, True),
) -> dict[str, Any]:
    """Return the transform and ``test_cfg`` of the precise test.

    Every point is predicted in fragments, at five scales, as it is and mirrored. There
    are as many fragments as points in the fullest cell: coarse cells make many.

    Source: Pointcept's ``configs/nuscenes/semseg-pt-v3m1-0-base``.
    """
    views = []
    for mirrored in mirrors:
        for scale in scales:
            view: Transforms = [dict(type="RandomScale", scale=[scale, scale])]
            views.append(view + [dict(type="RandomFlip", p=1)] * mirrored)
    return dict(
        transform=list(before),
        test_mode=True,
        test_cfg=dict(
            voxelize=_sample(grid_size) | dict(mode="test"),
            crop=None,
            post_transform=[
                dict(type="ToTensor"),
                dict(
                    type="Collect",
                    keys=("coord", "grid_coord", "index"),
                    feat_keys=FEATURES,
                ),
            ],
            aug_transform=views,
        ),
    )
