"""A run folder with the checkpoint of a tiny PointINS, and scenes that it takes."""

import numpy as np
import torch

from pointins_plugin.host import Config, build_model

CONFIG = """
grid_size = 0.05
model = dict(
    type="PointINS",
    backbone=dict(
        type="PT-v3m2",
        in_channels=9,
        order=("z", "hilbert"),
        stride=(2, 2),
        enc_depths=(1, 1, 1),
        enc_channels=(16, 16, 32),
        enc_num_head=(2, 2, 4),
        enc_patch_size=(64, 64, 64),
        drop_path=0.0,
        enable_flash=False,
        shuffle_orders=True,
        traceable=True,
        enc_mode=True,
    ),
    semantic=dict(
        type="DOSObjective", hidden_channels=8, embed_channels=8, num_prototypes=8
    ),
    offset_branch=dict(
        prior=dict(type="log_normal", median=0.2, sigma=0.5),
        hidden_channels=16,
        odr=None,
        scr=None,
        relative_position=True,
    ),
    up_cast_level=2,
    match_max_r=0.1,
)
transform = [
    dict(type="RangeCrop", near=0.1, far=0.2),
    dict(type="GridSample", grid_size=grid_size, mode="train", return_grid_coord=True),
    dict(type="Copy", keys_dict=dict(coord="origin_coord")),
    dict(type="CenterShift", apply_z=True),
    dict(type="NormalizeColor"),
    dict(type="InstanceParser", segment_ignore_index=(-1, 0)),
    dict(type="ToTensor"),
    dict(type="Update", keys_dict=dict(grid_size=grid_size)),
    dict(
        type="Collect",
        keys=("coord", "origin_coord", "grid_coord", "instance", "grid_size", "name"),
        feat_keys=("coord", "color", "normal"),
    ),
]
data = dict(
    train=dict(type="FolderDataset"),
    val=dict(type="FolderDataset", transform=transform, viewpoint=(0.0, 0.0, 5.0)),
)
hooks = [
    dict(
        type="LabelFreeInstanceEvaluator",
        radius=0.04,
        bandwidth=0.06,
        min_size=5,
        planes=dict(threshold=0.01, min_share=0.2),
        smoothing=dict(rounds=1, num_neighbours=4, reach=0.2),
    ),
]
"""


def write_run(folder, config=CONFIG, seed=0):
    """Write config.py and model/model_last.pth; return the model and the checkpoint."""
    (folder / "model").mkdir(parents=True)
    (folder / "config.py").write_text(config, encoding="utf-8")
    torch.manual_seed(seed)
    model = build_model(Config.fromfile(folder / "config.py").model)
    # student and teacher differ, as after training
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    path = folder / "model" / "model_last.pth"
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, path)
    return model.eval(), path


def boxes(seed=0, color=True):
    """A floor and two boxes, 3,000 points: coord (N, 3) m, color 0-255."""
    rng = np.random.default_rng(seed)
    floor = rng.random((2000, 3)) * (2, 2, 0.002)
    low = rng.random((500, 3)) * 0.2 + (0.3, 0.3, 0.1)
    high = rng.random((500, 3)) * 0.2 + (1.3, 1.2, 0.1)
    coord = np.concatenate([floor, low, high]).astype(np.float32)
    scene = {"coord": coord}
    if color:
        scene["color"] = rng.integers(0, 256, coord.shape).astype(np.float32)
    return scene
