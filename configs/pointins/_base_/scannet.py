"""ScanNet with 20 classes: names and folders. Walls and floors have no instances."""

import os

root = os.environ.get("POINTINS_DATA", "data")

class_names = [
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "desk",
    "curtain",
    "refridgerator",
    "shower curtain",
    "toilet",
    "sink",
    "bathtub",
    "otherfurniture",
]
stuff = ("wall", "floor")
num_classes = 20
segment_ignore_index = (-1, 0, 1)

data = dict(
    num_classes=num_classes,
    ignore_index=-1,
    names=class_names,
    stuff=stuff,
    train=dict(type="ScanNetDataset", split="train", data_root=f"{root}/scannet"),
    val=dict(type="ScanNetDataset", split="val", data_root=f"{root}/scannet"),
    test=dict(type="ScanNetDataset", split="val", data_root=f"{root}/scannet"),
)

del os, root
