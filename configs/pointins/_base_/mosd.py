"""mOSD table tops: names and folders. The table has no instances."""

import os

# $POINTINS_DATA/mosd, else data/mosd of the repository, else a folder beside it
data_root = os.path.join(os.environ.get("POINTINS_DATA", "data"), "mosd")
if not os.path.isdir(data_root) and os.path.isdir("../shared/data/mosd"):
    data_root = "../shared/data/mosd"
del os

class_names = ["table", "object"]
stuff = ("table",)
num_classes = 2
segment_ignore_index = (-1, 0)

# where the camera was, the same in all scenes: seen from there, hardly a ray meets two
# surfaces
viewpoint = (0.1, -1.0, 1.1)
data = dict(
    num_classes=num_classes,
    ignore_index=-1,
    names=class_names,
    stuff=stuff,
    train=dict(
        type="FolderDataset", split="train", data_root=data_root, viewpoint=viewpoint
    ),
    val=dict(
        type="FolderDataset", split="val", data_root=data_root, viewpoint=viewpoint
    ),
    test=dict(
        type="FolderDataset", split="val", data_root=data_root, viewpoint=viewpoint
    ),
)
