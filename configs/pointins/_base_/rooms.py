"""Procedural rooms: names and sizes; `class_names` are those of `RoomsDataset`."""

class_names = [
    "wall",
    "floor",
    "door",
    "window",
    "picture",
    "table",
    "chair",
    "sofa",
    "bed",
    "shelf",
    "cabinet",
    "lamp",
    "box",
    "books",
    "plant",
    "screen",
    "cushion",
]
stuff = ("wall", "floor", "door", "window", "picture")
num_classes = 17
segment_ignore_index = (-1, 0, 1, 2, 3, 4)

data = dict(
    num_classes=num_classes,
    ignore_index=-1,
    names=class_names,
    stuff=stuff,
    train=dict(type="RoomsDataset", split="train", num_scenes=60, seed=0),
    val=dict(type="RoomsDataset", split="val", num_scenes=8, seed=0),
    test=dict(type="RoomsDataset", split="test", num_scenes=8, seed=0),
)
