"""Pairs of frames: the list, the entries, damaged files."""

import os

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import build_dataset, build_model, collate_fn

GRID = 0.05


def view(shift=()):
    return [
        *shift,
        {"type": "Copy", "keys_dict": {"coord": "origin_coord"}},
        {
            "type": "Update",
            "keys_dict": {"index_valid_keys": ["coord", "color", "origin_coord"]},
        },
        {"type": "RandomRotate", "angle": [-1, 1], "axis": "z", "p": 1},
        {
            "type": "GridSample",
            "grid_size": GRID,
            "mode": "train",
            "return_grid_coord": True,
        },
        {"type": "NormalizeColor"},
        {"type": "ToTensor"},
        {
            "type": "Collect",
            "keys": ("origin_coord", "grid_coord", "coord"),
            "offset_keys_dict": {"offset": "coord"},
            "feat_keys": ["coord", "color"],
        },
    ]


def config(root, **options):
    return {
        "type": "ScanNetPairDataset",
        "data_root": str(root),
        "view1_transform": view(),
        "view2_transform": view(),
        **options,
    }


@pytest.fixture
def root(tmp_path):
    """Two scenes of three frames: slices of one wall that overlap."""
    rng = np.random.default_rng(0)
    for scene in ("scene0000_00", "scene0001_00"):
        folder = tmp_path / scene / "pcd"
        folder.mkdir(parents=True)
        wall = rng.random((6000, 3)) * [6, 0.1, 2]
        for frame in range(3):
            keep = (wall[:, 0] >= frame) & (wall[:, 0] < frame + 3)
            color = (wall[keep] * 40).astype(np.uint8)
            torch.save(dict(coord=wall[keep], color=color), folder / f"{frame}.pth")
        rows = [(0, 1, 0.66), (1, 2, 0.67), (0, 2, 0.3)]
        lines = [f"/{scene}/pcd/{a}.pth /{scene}/pcd/{b}.pth {o}\n" for a, b, o in rows]
        (folder / "overlap.txt").write_text("".join(lines))
    return tmp_path


def test_pairs_above_the_threshold(root):
    dataset = build_dataset(config(root, loop=2))
    assert len(dataset.data_list) == 4
    assert len(dataset) == 8
    assert dataset.get_data_name(1) == "scene0000_00-1-2"
    assert dataset.get_data_name(6) == "scene0001_00-0-1"
    assert len(build_dataset(config(root, overlap_threshold=0.29)).data_list) == 6


def test_frames_share_a_frame_of_reference_and_train(root):
    np.random.seed(0)
    torch.manual_seed(0)
    dataset = build_dataset(config(root))
    batch = collate_fn([dataset[0], dataset[2]])
    for name in ("view1", "view2"):
        size = len(batch[f"{name}_coord"])
        assert batch[f"{name}_offset"][-1] == size
        assert batch[f"{name}_feat"].shape == (size, 6)
        assert batch[f"{name}_coord"].dtype == torch.float32
    assert batch["view1_origin_coord"][:, 0].min() < 0.1
    assert batch["view2_origin_coord"][:, 0].min() == pytest.approx(1, abs=0.1)
    model = build_model(
        {
            "type": "PointContrast",
            "backbone": {
                "type": "PT-v3m2",
                "in_channels": 6,
                "stride": (2,),
                "enc_depths": (1, 1),
                "enc_channels": (8, 16),
                "enc_num_head": (1, 2),
                "enc_patch_size": (64, 64),
                "enable_flash": False,
                "traceable": True,
                "enc_mode": True,
            },
            "loss": {"type": "PointInfoNCELoss"},
            "up_cast_level": 1,
            "match_max_r": GRID,
        }
    )
    output = model(batch)
    output["loss"].backward()
    assert output["matches"] > 300
    assert output["loss"].isfinite()


def test_what_cannot_be_read_is_named(root, tmp_path):
    with pytest.raises(UserError, match="does not exist; make it with"):
        build_dataset(config(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no pair overlaps by more"):
        build_dataset(config(root, overlap_threshold=0.9))
    dataset = build_dataset(config(root))
    frame = root / "scene0000_00" / "pcd" / "0.pth"
    frame.write_bytes(b"junk")
    with pytest.raises(UserError, match=r"frame .*0\.pth cannot be read"):
        dataset[0]
    torch.save({"coord": np.full((5, 3), np.nan)}, frame)
    with pytest.raises(UserError, match="not finite"):
        dataset[0]
    torch.save({"color": np.zeros((5, 3))}, frame)
    with pytest.raises(UserError, match="has no coord"):
        dataset[0]
    frame.unlink()
    with pytest.raises(UserError, match=r"frame .*0\.pth cannot be read"):
        dataset[0]
    (root / "scene0000_00" / "pcd" / "overlap.txt").write_text("a b\n")
    with pytest.raises(UserError, match="no list of pairs"):
        build_dataset(config(root))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran_code",)


def test_frames_run_nothing(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    dataset = build_dataset(config(root))
    torch.save({"coord": Evil()}, root / "scene0000_00" / "pcd" / "0.pth")
    with pytest.raises(UserError, match="cannot be read"):
        dataset[0]
    assert not os.path.exists("ran_code")
