"""ScanNet's depth frames in overlapping pairs, as PointContrast prepares them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, Compose, get_root_logger
from pointins_plugin.scenes import load_arrays

_HINT = (
    "make it with Pointcept's pointcept/datasets/preprocessing/scannet/scannet_pair, "
    "or use PartialViewPairGenerator on whole scenes, which needs no frames"
)


class ScanNetPairDataset(Dataset):
    """Pairs of frames of one scene that overlap: ``view1_*`` and ``view2_*`` entries.

    ``data_root/SCENE/pcd/overlap.txt`` lists pairs of frames and their overlap, a
    frame is a ``.pth`` file below ``data_root`` with a dictionary of arrays ``coord``
    (n, 3), metres, in the scene's frame, and ``color`` (n, 3), 0-255.

    Args:
        data_root: folder of the scenes.
        overlap_threshold: pairs that overlap by more are taken.
        view1_transform, view2_transform: transforms of either frame. Each view gets
            an ``origin_coord`` of its own, so do not shift a frame before copying it.
        loop: times the pairs are repeated in an epoch.

    Raises:
        UserError: no folder, no list of pairs, no pair that overlaps enough, or (when
            read) a frame that is missing or damaged.

    Same name, options and entries as Pointcept's, which is used on Pointcept; frames
    are read as plain arrays, without running what a file may hold.
    """

    def __init__(
        self,
        data_root: str = "data/scannet_pair",
        overlap_threshold: float = 0.3,
        view1_transform: list[dict] | None = None,
        view2_transform: list[dict] | None = None,
        loop: int = 1,
        **kwargs: Any,
    ):
        super().__init__()
        self.data_root = data_root
        self.overlap_threshold = overlap_threshold
        self.transforms = {
            "view1": Compose(view1_transform),
            "view2": Compose(view2_transform),
        }
        self.loop = loop
        self.data_list = self.get_data_list()
        get_root_logger().info(
            f"ScanNetPairDataset: {len(self.data_list)} pairs x {loop} in {data_root}"
        )

    def get_data_list(self) -> list[tuple[str, str]]:
        """Return the pairs of frames, as paths below ``data_root``, scene by scene."""
        root = Path(self.data_root)
        if not root.is_dir():
            raise UserError(f"data folder {root} does not exist; {_HINT}")
        lists = sorted(root.glob("*/pcd/overlap.txt"))
        if not lists:
            raise UserError(f"data folder {root} has no SCENE/pcd/overlap.txt; {_HINT}")
        pairs = [
            (first, second)
            for file in lists
            for first, second, overlap in _read_pairs(file)
            if overlap > self.overlap_threshold
        ]
        if not pairs:
            raise UserError(
                f"data folder {root}: no pair overlaps by more than "
                f"{self.overlap_threshold}; lower overlap_threshold"
            )
        return pairs

    def get_data_name(self, idx: int) -> str:
        """Return the name of a pair: its scene and frames."""
        first, second = map(Path, self.data_list[idx % len(self.data_list)])
        scene = first.parts[-3] if len(first.parts) > 2 else ""
        return f"{scene}-{first.stem}-{second.stem}"

    def get_data(self, idx: int) -> dict[str, dict[str, Any]]:
        """Return the arrays of the two frames, to change freely."""
        frames = self.data_list[idx % len(self.data_list)]
        # Listed paths begin with a slash.
        paths = [os.path.join(self.data_root, name.lstrip("/")) for name in frames]
        return dict(zip(("view1", "view2"), map(_read_frame, paths), strict=True))

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return {
            f"{view}_{key}": value
            for view, frame in self.get_data(idx).items()
            for key, value in self.transforms[view](frame).items()
        }

    def __len__(self) -> int:
        return len(self.data_list) * self.loop


def _read_pairs(file: Path) -> list[tuple[str, str, float]]:
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
        return [(row[0], row[1], float(row[2])) for row in rows if row]
    except (OSError, ValueError, IndexError) as error:
        raise UserError(
            f"{file} is no list of pairs ({error}); a line is: FRAME FRAME OVERLAP"
        ) from None


def _read_frame(path: str) -> dict[str, Any]:
    frame = load_arrays(path, "frame")
    if "coord" not in frame:
        raise UserError(f"frame {path} has no coord")
    coord = frame["coord"]
    if coord.ndim != 2 or coord.shape[1] < 3 or not len(coord):
        raise UserError(f"frame {path}: coord has shape {coord.shape}, expected (n, 3)")
    if not np.isfinite(coord).all():
        raise UserError(f"frame {path}: coord holds values that are not finite")
    frame["coord"] = coord[:, :3].astype(np.float32)
    if "color" in frame:
        frame["color"] = frame["color"][:, :3].astype(np.float32)
    return frame


if DATASETS.get("ScanNetPairDataset") is None:  # Pointcept has its own
    DATASETS.register_module(module=ScanNetPairDataset)
