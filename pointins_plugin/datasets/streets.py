"""Streets seen by a spinning LiDAR, made on the fly: scans without any files."""

from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, DefaultDataset

from .street_layout import CLASSES, STUFF, THINGS, lay_street
from .street_scan import SENSORS, scan_street

__all__ = ["CLASSES", "STUFF", "THINGS", "StreetsDataset", "make_street", "street_name"]

_SPLITS = {"train": 0, "val": 1, "test": 2}


def make_street(
    split: str, index: int, seed: int = 0, advance: float = 0.0, **scanner
) -> dict[str, Any]:
    """Return one scan of one street; the same arguments give the same arrays.

    Args:
        split: "train", "val" or "test"; no street is in two of them.
        index: number of the street in its split.
        seed: of all streets.
        advance: metres that the sensor has driven on along x; nothing else moves.
        scanner: options of ``street_scan.scan_street``.

    Returns:
        coord (n, 3) float32, metres, in the sensor's frame, z up; strength (n, 1)
        float32, 0-1; segment (n,) int32, index into ``CLASSES``; instance (n,) int32,
        things from 0, -1 on stuff.

    Raises:
        UserError: an unknown split or a scanner option out of range.
    """
    _check(split, seed, scanner)
    # the layout has a stream of its own: another sensor sees the same street
    layout, scanning = np.random.SeedSequence([seed, 7, _SPLITS[split], index]).spawn(2)
    street = lay_street(np.random.default_rng(layout))
    street.sensor = street.sensor + (advance, 0.0)
    return scan_street(street, np.random.default_rng(scanning), **scanner)


def _check(split: str, seed: int, scanner: dict) -> None:
    if split not in _SPLITS:
        raise UserError(f"streets have no split {split!r}; use train, val or test")
    if seed < 0:
        raise UserError(f"streets need a seed of at least 0, not {seed}")
    if scanner.get("beams", 64) not in SENSORS:
        raise UserError(
            f"streets are scanned by {sorted(SENSORS)} beams, not {scanner['beams']}"
        )
    limits = {"noise": (0.0, 10.0), "dropout": (0.0, 0.99), "min_points": (0, 10**6)}
    for name, (low, high) in limits.items():
        value = scanner.get(name, low)
        if not low <= value <= high:
            raise UserError(
                f"streets need {name} between {low} and {high}, not {value}"
            )


@DATASETS.register_module()
class StreetsDataset(DefaultDataset):
    """LiDAR scans of random streets, in the shape of the host's own datasets.

    A road, often a crossing, with parked and moving cars, trucks, racks of bicycles,
    groups of pedestrians, houses, trees, hedges, fences, poles and signs, seen once
    from the road: one side of things, in rings that thin out with range. Classes are
    ``CLASSES``; the first four, ``THINGS``, have instances.

    Args:
        split: "train", "val" or "test", or several of them.
        num_scenes: streets in each split.
        seed: of all streets.
        transform: transforms of a sample.
        test_mode: return whole scenes with the fragments of ``test_cfg``.
        test_cfg: as in ``DefaultDataset``.
        cache: keep scans in memory (in each worker): about 3 MB and .5 s a scan.
        ignore_index: label of points that do not count; no street has any.
        loop: times the split is repeated in an epoch.
        beams: 64 (120,000 points) or 32 (32,000 points).
        noise: factor on the errors of range and intensity.
        dropout: share of rays lost at random.
        min_points: things seen by fewer points have no instance.

    Raises:
        UserError: an unknown split, no scene, or a scanner option out of range.
    """

    def __init__(
        self,
        split: str | list[str] = "train",
        num_scenes: int = 200,
        seed: int = 0,
        transform: list[dict] | None = None,
        test_mode: bool = False,
        test_cfg: dict | None = None,
        cache: bool = True,
        ignore_index: int = -1,
        loop: int = 1,
        beams: int = 64,
        noise: float = 1.0,
        dropout: float = 0.05,
        min_points: int = 5,
    ):
        if num_scenes < 1:
            raise UserError(f"streets need num_scenes of at least 1, not {num_scenes}")
        self.num_scenes = num_scenes
        self.seed = seed
        self.scanner = dict(
            beams=beams, noise=noise, dropout=dropout, min_points=min_points
        )
        self._scans: dict[tuple[str, int], dict[str, Any]] = {}
        super().__init__(
            split=split,
            data_root="streets",
            transform=transform,
            test_mode=test_mode,
            test_cfg=test_cfg,
            cache=cache,
            ignore_index=ignore_index,
            loop=loop,
        )

    def describe(self) -> str:
        """Return where the scans come from, for logs."""
        return f"random streets ({self.split}, seed {self.seed})"

    def get_data_list(self) -> list[tuple[str, int]]:
        """Return (split, index) of all streets."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        for split in splits:
            _check(split, self.seed, self.scanner)
        return [(split, i) for split in splits for i in range(self.num_scenes)]

    def get_data_name(self, idx: int) -> str:
        """Return the name of a street."""
        return street_name(*self.data_list[idx % len(self.data_list)])

    def get_split_name(self, idx: int) -> str:
        """Return the split of a street."""
        return self.data_list[idx % len(self.data_list)][0]

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scan, to change freely."""
        key = self.data_list[idx % len(self.data_list)]
        scan = self._scans.get(key)
        if scan is None:
            scan = make_street(*key, seed=self.seed, **self.scanner)
            if self.cache:
                self._scans[key] = scan
        data = {name: values.copy() for name, values in scan.items()}
        data["name"] = self.get_data_name(idx)
        data["split"] = key[0]
        return data


def street_name(split: str, index: int) -> str:
    """Return the name of a street, e.g. ``street_val_0003``."""
    return f"street_{split}_{index:04d}"
