"""SemanticKITTI: names and folders; classes and things are the benchmark's.

Scans are in the vehicle's frame, z up from the ground.
"""

import os

from pointins_plugin.datasets.lidar_benchmarks import SEMANTIC_KITTI

root = os.environ.get("POINTINS_DATA", "data")

class_names = list(SEMANTIC_KITTI.names)
things = SEMANTIC_KITTI.things
stuff = SEMANTIC_KITTI.stuff
num_classes = len(class_names)
segment_ignore_index = (-1, *SEMANTIC_KITTI.stuff_classes)
min_points = SEMANTIC_KITTI.min_points

source = dict(
    type="SemanticKITTIPanopticDataset",
    data_root=f"{root}/semantic_kitti",
    frame="vehicle",
    ignore_index=-1,
)
data = dict(
    num_classes=num_classes,
    ignore_index=-1,
    names=class_names,
    things=things,
    stuff=stuff,
    train=dict(split="train", **source),
    val=dict(split="val", **source),
    test=dict(split="val", **source),
)

del SEMANTIC_KITTI, os, root, source
