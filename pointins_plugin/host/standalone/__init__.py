"""A small runtime that speaks Pointcept's dialect where there is no Pointcept.

Registry names, config keys, batch keys, folder layouts and state-dict names are those
of Pointcept d74c646.
"""

from . import (  # these register themselves
    criteria,
    indoor,
    nuscenes,
    panoptic_tester,
    point_group,
    s3dis,
    scannet,
    segmentor,
    semantic_kitti,
    testers,
)

__all__ = [
    "criteria",
    "indoor",
    "nuscenes",
    "panoptic_tester",
    "point_group",
    "s3dis",
    "scannet",
    "segmentor",
    "semantic_kitti",
    "testers",
]
