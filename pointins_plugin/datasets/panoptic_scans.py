"""LiDAR scans with panoptic labels: what SemanticKITTI and nuScenes have in common."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import DefaultDataset

FRAMES = ("sensor", "vehicle")


class PanopticScanDataset(DefaultDataset):
    """Scans with classes and instances, alone or with the sweeps before them.

    A scan is ``coord`` (N, 3) float32 metres, ``strength`` (N, 1) float32 in 0-1,
    ``segment`` (N,) int32, ``instance`` (N,) int32, which counts the things of the
    scan from 0 and is -1 on stuff and on things without an id, and ``panoptic`` (N,)
    int32, which counts its raw labels, all of them, and is -1 without labels: to the
    benchmarks raw labels of one class are segments apart. With sweeps there are also
    ``sweep`` (N,) int32, 0 for the scan itself, whose points come first, and
    ``time_lag`` (N, 1) float32, seconds before the scan; past points have no labels:
    where something moved, they lie beside it.

    Args:
        past_sweeps: sweeps before a scan that are moved into its frame and added, as
            many as its sequence has.
        frame: ``"sensor"``, as published, or ``"vehicle"``: x forward, y left, z up
            from the ground, so that data sets with different sensors agree.
        labels: False reads none, as in the test split: for pre-training.
        ignore_index: class of points without one.
        Others as in ``DefaultDataset``.

    Raises:
        UserError: an unknown frame, a missing folder or file, a damaged scan.
    """

    def __init__(
        self,
        past_sweeps: int = 0,
        frame: str = "sensor",
        labels: bool = True,
        ignore_index: int = -1,
        **kwargs: Any,
    ):
        if frame not in FRAMES:
            raise UserError(
                f"config: {type(self).__name__} frame={frame!r}; use one of "
                f"{', '.join(FRAMES)}"
            )
        if past_sweeps < 0:
            raise UserError(
                f"config: {type(self).__name__} past_sweeps={past_sweeps}; give 0 or "
                "more"
            )
        self.past_sweeps = past_sweeps
        self.frame = frame
        self.labels = labels
        super().__init__(ignore_index=ignore_index, **kwargs)

    def read_scan(self, entry: Any) -> dict[str, np.ndarray]:
        """Return the arrays of a scan without past sweeps, in the sensor's frame."""
        raise NotImplementedError

    def past_scans(self, entry: Any) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield points (M, 4), their map (4, 4) into the scan's frame, and seconds.

        The latest first, at most ``past_sweeps``.
        """
        raise NotImplementedError

    def vehicle_from_sensor(self, entry: Any) -> np.ndarray:
        """Return the (4, 4) map from the sensor's frame to the vehicle's."""
        raise NotImplementedError

    def get_data(self, idx: int) -> dict[str, Any]:
        """Return the arrays of a scan, to change freely."""
        entry = self.data_list[idx % len(self.data_list)]
        scan = self.read_scan(entry)
        if self.past_sweeps:
            scan = self._with_past(scan, entry)
        if self.frame == "vehicle":
            scan["coord"] = moved(scan["coord"], self.vehicle_from_sensor(entry))
        return {
            **scan,
            "index_valid_keys": list(scan),
            "name": self.get_data_name(idx),
            "split": self.get_split_name(idx),
        }

    def _with_past(self, scan: dict[str, np.ndarray], entry: Any) -> dict:
        coord, strength = [scan["coord"]], [scan["strength"]]
        lags = [0.0]
        for points, motion, lag in self.past_scans(entry):
            coord.append(moved(points[:, :3], motion))
            strength.append(points[:, 3:4])
            lags.append(lag)
        sizes = [len(part) for part in coord]
        past = sum(sizes[1:])
        return {
            "coord": np.concatenate(coord),
            "strength": np.concatenate(strength),
            "segment": np.append(
                scan["segment"], np.full(past, self.ignore_index, np.int32)
            ),
            **{
                key: np.append(scan[key], np.full(past, -1, np.int32))
                for key in ("instance", "panoptic")
            },
            "sweep": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
            "time_lag": np.repeat(np.float32(lags), sizes)[:, None],
        }


def moved(coord: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Return points (N, 3) mapped by a (4, 4) matrix, float32, computed in float64."""
    rotated = coord.astype(np.float64) @ motion[:3, :3].T
    return (rotated + motion[:3, 3]).astype(np.float32)


def number_instances(ids: np.ndarray, has_instance: np.ndarray) -> np.ndarray:
    """Number the ids (N,) of points from 0 in rising order, -1 where there are none."""
    instance = np.full(len(ids), -1, np.int32)
    if has_instance.any():
        _, number = np.unique(ids[has_instance], return_inverse=True)
        instance[has_instance] = number.reshape(-1)
    return instance
