"""Procedural streets: names and sizes; the classes are those of `StreetsDataset`."""

from pointins_plugin.datasets.street_layout import CLASSES, STUFF, THINGS

class_names = list(CLASSES)
things = THINGS
stuff = STUFF
num_classes = len(class_names)
segment_ignore_index = (-1, *(CLASSES.index(name) for name in STUFF))
min_points = 30

data = dict(
    num_classes=num_classes,
    ignore_index=-1,
    names=class_names,
    things=things,
    stuff=stuff,
    train=dict(type="StreetsDataset", split="train", num_scenes=60, seed=0),
    val=dict(type="StreetsDataset", split="val", num_scenes=8, seed=0),
    test=dict(type="StreetsDataset", split="test", num_scenes=8, seed=0),
)

del CLASSES, STUFF, THINGS
