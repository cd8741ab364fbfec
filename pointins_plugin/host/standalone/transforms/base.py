"""Composition of transforms, and indexing of the arrays of a scene."""

import copy
from typing import Any

import numpy as np

from ..registry import TRANSFORMS

# Arrays with one row a point; "Update" of index_valid_keys changes the list.
INDEX_VALID_KEYS = (
    "coord",
    "color",
    "normal",
    "superpoint",
    "strength",
    "segment",
    "instance",
)


def index_operator(data_dict: dict, index: np.ndarray, duplicate: bool = False) -> dict:
    """Select rows of every array that has one row a point.

    Args:
        data_dict: a scene; its ``index_valid_keys`` names the arrays.
        index: rows to keep, integers or bool.
        duplicate: return a new scene instead of changing this one.
    """
    keys = data_dict.setdefault("index_valid_keys", list(INDEX_VALID_KEYS))
    if duplicate:
        data_dict = {**data_dict, "index_valid_keys": copy.copy(keys)}
    for key in keys:
        if key in data_dict:
            data_dict[key] = data_dict[key][index]
    return data_dict


class Compose:
    """Apply transforms in order."""

    def __init__(self, cfg: list[dict] | None = None):
        self.transforms = [TRANSFORMS.build(entry) for entry in cfg or []]

    def __call__(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        for transform in self.transforms:
            data_dict = transform(data_dict)
        return data_dict
