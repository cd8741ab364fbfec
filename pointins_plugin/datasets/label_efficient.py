"""Training with few labels: a part of the scenes, or of the points of each."""

import zlib
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, build_dataset


def sample_scenes(num_scenes: int, share: float, seed: int = 0) -> np.ndarray:
    """Return the scenes of a label-efficient split, in rising order.

    Args:
        num_scenes: of the whole split.
        share: in (0, 1]; at least one scene is kept.
        seed: of the choice. Smaller shares are parts of larger ones.
    """
    order = np.random.default_rng(seed).permutation(num_scenes)
    return np.sort(order[: max(1, round(share * num_scenes))])


def sample_points(
    segment: np.ndarray, amount: float, name: str, seed: int = 0, ignore_index: int = -1
) -> np.ndarray:
    """Return the points of a scene whose labels may be used, in rising order.

    Args:
        segment: (N,) classes.
        amount: a share of the labelled points (float in (0, 1], at least one point)
            or their number (int).
        name: of the scene; with ``seed`` it decides the choice. Smaller amounts are
            parts of larger ones.
        ignore_index: class of unlabelled points.
    """
    labelled = np.flatnonzero(segment != ignore_index)
    count = amount
    if isinstance(amount, float):
        count = max(1, round(amount * len(labelled)))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return np.sort(rng.permutation(labelled)[:count])


def _limited(get_data: Any, amount: float, seed: int, ignore_index: int, index: int):
    """Return a scene of another dataset with labels on some of its points only."""
    scene = get_data(index)
    segment = scene["segment"]
    labelled = sample_points(segment, amount, str(scene["name"]), seed, ignore_index)
    unlabelled = np.ones(len(segment), dtype=bool)
    unlabelled[labelled] = False
    segment[unlabelled] = ignore_index
    if "instance" in scene:
        scene["instance"][unlabelled] = -1
    # GridSample and RandomDropout keep the points that this names.
    scene["sampled_index"] = labelled
    return scene


@DATASETS.register_module()
class LabelEfficientDataset(Dataset):
    """Another dataset with few labels: a share of its scenes, or of their points.

    Takes the other dataset's keywords beside its own, so that any config becomes
    label-efficient by an override, e.g.
    ``-o data.train.type=LabelEfficientDataset data.train.base=ScanNetDataset
    data.train.scenes=0.1``. The choice depends on ``label_seed`` and the scenes' names
    alone: it is the same in every epoch, run and process, and smaller shares are
    parts of larger ones. (ScanNet's published splits are ``lr_file`` and ``la_file``
    of ``ScanNetDataset``.)

    Args:
        base: the dataset's type; one that reads whole scenes (``DefaultDataset``).
        scenes: share of the scenes, in (0, 1].
        points: labelled points of each scene: a share of them (float in (0, 1]) or
            their number (int); None for all. The others get ``ignore_index`` and no
            instance, and stay as input.
        label_seed: of the choice.
        **options: keywords of ``base``.

    Raises:
        UserError: a share out of range, or a dataset whose scenes cannot be chosen.
    """

    def __init__(
        self,
        base: str,
        scenes: float = 1.0,
        points: float | None = None,
        label_seed: int = 0,
        **options: Any,
    ):
        super().__init__()
        _check("scenes", scenes, isinstance(scenes, bool) or not 0 < scenes <= 1)
        if points is not None:
            share = isinstance(points, float)
            odd = not 0 < points <= 1 if share else points < 1
            _check("points", points, isinstance(points, bool) or odd)
        self.dataset = build_dataset({"type": base, **options})
        whole_scenes = ("data_list", "get_data", "ignore_index")
        if not all(hasattr(self.dataset, name) for name in whole_scenes):
            raise UserError(
                f"config: LabelEfficientDataset cannot choose scenes of {base}; give "
                "it a dataset of whole scenes"
            )
        whole = list(self.dataset.data_list)
        kept = sample_scenes(len(whole), scenes, label_seed)
        self.dataset.data_list = [whole[index] for index in kept]
        if points is not None:
            self.dataset.get_data = partial(
                _limited,
                self.dataset.get_data,
                points,
                label_seed,
                self.dataset.ignore_index,
            )

    def get_data_name(self, idx: int) -> str:
        """Return the name of a scene."""
        return self.dataset.get_data_name(idx)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return self.dataset[idx]

    def __len__(self) -> int:
        return len(self.dataset)


def _check(name: str, value: float, wrong: bool) -> None:
    if wrong:
        raise UserError(
            f"config: LabelEfficientDataset {name}={value}; give a share in (0, 1]"
            + (" or a number of points" if name == "points" else "")
        )
