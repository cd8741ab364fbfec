"""Transforms that copy, convert and collect the entries of a scene."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pointins_plugin.errors import UserError

from ..registry import TRANSFORMS
from .base import entry


@TRANSFORMS.register_module()
class Collect:
    """Pick the entries of a batch and build features and offsets.

    Args:
        keys: entries to keep.
        offset_keys_dict: name of an offset to the entry whose rows it counts.
        **kwargs: ``<name>_keys=(...)`` concatenates entries to ``<name>``.
    """

    def __init__(self, keys, offset_keys_dict: dict | None = None, **kwargs):
        self.keys = [keys] if isinstance(keys, str) else list(keys)
        if offset_keys_dict is None:
            offset_keys_dict = {"offset": "coord"}
        self.offset_keys = offset_keys_dict
        self.kwargs = kwargs

    def __call__(self, data_dict: dict) -> dict:
        data = {key: entry(data_dict, key, "Collect") for key in self.keys}
        for name, key in self.offset_keys.items():
            data[name] = torch.tensor([len(entry(data_dict, key, "Collect"))])
        for name, keys in self.kwargs.items():
            parts = [entry(data_dict, key, "Collect").float() for key in keys]
            data[name.replace("_keys", "")] = torch.cat(parts, dim=1)
        return data


@TRANSFORMS.register_module()
class Copy:
    """Copy entries to other names: ``keys_dict`` maps source to target."""

    def __init__(self, keys_dict: dict | None = None):
        self.keys_dict = keys_dict or {
            "coord": "origin_coord",
            "segment": "origin_segment",
        }

    def __call__(self, data_dict: dict) -> dict:
        for source, target in self.keys_dict.items():
            value = entry(data_dict, source, "Copy")
            if isinstance(value, np.ndarray):
                data_dict[target] = value.copy()
            elif isinstance(value, torch.Tensor):
                data_dict[target] = value.clone().detach()
            else:
                data_dict[target] = copy.deepcopy(value)
        return data_dict


@TRANSFORMS.register_module()
class Update:
    """Set entries to values."""

    def __init__(self, keys_dict: dict | None = None):
        self.keys_dict = keys_dict or {}

    def __call__(self, data_dict: dict) -> dict:
        data_dict.update(self.keys_dict)
        return data_dict


@TRANSFORMS.register_module()
class ToTensor:
    """Convert arrays to tensors: integers to int64, floats to float32.

    Numbers become tensors of one element; text and tensors stay.
    """

    def __call__(self, data: Any) -> Any:
        if isinstance(data, (torch.Tensor, str)):
            return data
        if isinstance(data, int):
            return torch.tensor([data], dtype=torch.long)
        if isinstance(data, float):
            return torch.tensor([data], dtype=torch.float32)
        if isinstance(data, np.ndarray):
            if data.dtype == bool:
                return torch.from_numpy(data)
            if np.issubdtype(data.dtype, np.integer):
                return torch.from_numpy(data).long()
            if np.issubdtype(data.dtype, np.floating):
                return torch.from_numpy(data).float()
        if isinstance(data, Mapping):
            return {key: self._named(key, item) for key, item in data.items()}
        if isinstance(data, Sequence):
            return [self(item) for item in data]
        raise TypeError(f"{type(data).__name__} cannot become a tensor")

    def _named(self, key: str, item: Any) -> Any:
        try:
            return self(item)
        except TypeError as error:
            raise UserError(f"config: ToTensor: entry {key!r}: {error}") from None


@TRANSFORMS.register_module()
class InstanceParser:
    """Number instances from 0 and record the centre of each.

    Args:
        segment_ignore_index: classes that have no instances.
        instance_ignore_index: id of points of no instance.

    Writes ``instance``, ``instance_centroid`` (N, 3) float64 in the scene's current
    frame, and ``bbox`` (K, 8): box centre, size, angle 0 and the class counted
    without the ignored ones.
    """

    def __init__(
        self,
        segment_ignore_index: tuple[int, ...] = (-1, 0, 1),
        instance_ignore_index: int = -1,
    ):
        self.segment_ignore_index = segment_ignore_index
        self.instance_ignore_index = instance_ignore_index

    def __call__(self, data_dict: dict) -> dict:
        coord = data_dict["coord"]
        segment, instance = data_dict["segment"], data_dict["instance"]
        none = self.instance_ignore_index
        thing = ~np.isin(segment, self.segment_ignore_index)
        _, first, index = np.unique(
            instance[thing], return_index=True, return_inverse=True
        )
        num = len(first)
        instance = np.full_like(instance, none)
        instance[thing] = index
        points = coord[thing]
        count = np.bincount(index, minlength=num)[:, None]
        total = np.stack(
            [np.bincount(index, points[:, axis], num) for axis in range(3)], axis=1
        ).reshape(num, 3)
        mean = (total / np.maximum(count, 1)).astype(coord.dtype)
        low = np.full((num, 3), np.inf, coord.dtype)
        high = np.full((num, 3), -np.inf, coord.dtype)
        np.minimum.at(low, index, points)
        np.maximum.at(high, index, points)
        kind = segment[thing][first].astype(coord.dtype)
        vacant = np.array([i for i in self.segment_ignore_index if i >= 0])
        kind -= (kind[:, None] > vacant[None]).sum(1)
        centroid = np.full((len(coord), 3), float(none))
        centroid[thing] = mean[index]
        bbox = np.full((num, 8), float(none))
        bbox[:] = np.column_stack(
            [(high + low) / 2, high - low, np.zeros(num, coord.dtype), kind]
        ).reshape(num, 8)
        data_dict["instance"] = instance
        data_dict["instance_centroid"] = centroid
        data_dict["bbox"] = bbox
        return data_dict
