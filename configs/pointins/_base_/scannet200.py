"""ScanNet with 200 classes: names and folders. Walls and floors have no instances."""

import os

from pointins_plugin.scannet_labels import CLASS_LABELS_200

root = os.environ.get("POINTINS_DATA", "data")

class_names = list(CLASS_LABELS_200)
del CLASS_LABELS_200  # all names that are left are keys of the config
stuff = ("wall", "floor")
num_classes = 200
segment_ignore_index = (-1, 0, 2)

data = dict(
    num_classes=num_classes,
    ignore_index=-1,
    names=class_names,
    stuff=stuff,
    train=dict(type="ScanNet200Dataset", split="train", data_root=f"{root}/scannet"),
    val=dict(type="ScanNet200Dataset", split="val", data_root=f"{root}/scannet"),
    test=dict(type="ScanNet200Dataset", split="val", data_root=f"{root}/scannet"),
)

del os, root
