"""nuScenes: names and folders; classes and things are the benchmark's.

Scans are in the vehicle's frame, x forward, z up from the ground.
"""

import os

from pointins_plugin.datasets.lidar_benchmarks import NUSCENES

root = os.environ.get("POINTINS_DATA", "data")

class_names = list(NUSCENES.names)
things = NUSCENES.things
stuff = NUSCENES.stuff
num_classes = len(class_names)
segment_ignore_index = (-1, *NUSCENES.stuff_classes)
min_points = NUSCENES.min_points

source = dict(
    type="NuScenesPanopticDataset",
    data_root=f"{root}/nuscenes",
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

del NUSCENES, os, root, source
