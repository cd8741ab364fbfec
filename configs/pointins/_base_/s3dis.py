"""S3DIS, Area 5 held out: names and folders. All classes have instances."""

import os

root = os.environ.get("POINTINS_DATA", "data")

class_names = [
    "ceiling",
    "floor",
    "wall",
    "beam",
    "column",
    "window",
    "door",
    "table",
    "chair",
    "sofa",
    "bookcase",
    "board",
    "clutter",
]
stuff = ()
num_classes = 13
segment_ignore_index = (-1,)

areas = ("Area_1", "Area_2", "Area_3", "Area_4", "Area_6")
data = dict(
    num_classes=num_classes,
    ignore_index=-1,
    names=class_names,
    stuff=stuff,
    train=dict(type="S3DISDataset", split=areas, data_root=f"{root}/s3dis"),
    val=dict(type="S3DISDataset", split="Area_5", data_root=f"{root}/s3dis"),
    test=dict(type="S3DISDataset", split="Area_5", data_root=f"{root}/s3dis"),
)

del os, root
