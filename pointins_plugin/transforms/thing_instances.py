"""Instances of a scan in which some things have no id."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pointins_plugin.errors import UserError
from pointins_plugin.host import TRANSFORMS


@TRANSFORMS.register_module()
class ThingInstances:
    """Number the instances of thing classes from 0 and record the centre of each.

    As the host's ``InstanceParser``, except that a thing without an id stays one: there
    all such points of a scan become one instance, whose centre lies between them. There
    is no ``bbox``.

    Args:
        segment_ignore_index: classes that have no instances.
        instance_ignore_index: id of points of no instance.

    Writes ``instance`` (N,) int32 and ``instance_centroid`` (N, 3) float32, the mean of
    the points in the scan's current frame; ``instance_ignore_index`` where there is no
    instance.
    """

    def __init__(
        self,
        segment_ignore_index: Sequence[int] = (-1,),
        instance_ignore_index: int = -1,
    ):
        self.segment_ignore_index = tuple(segment_ignore_index)
        self.instance_ignore_index = instance_ignore_index

    def __call__(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        for key in ("segment", "instance"):
            if key not in data_dict:
                raise UserError(
                    f"config: ThingInstances asks for {key!r}, which scene "
                    f"{data_dict.get('name', '?')} does not have"
                )
        coord, given = data_dict["coord"], data_dict["instance"]
        none = self.instance_ignore_index
        thing = ~np.isin(data_dict["segment"], self.segment_ignore_index)
        thing &= (given != none) & (given >= 0)
        instance = np.full(len(coord), none, np.int32)
        centroid = np.full((len(coord), 3), none, np.float32)
        _, number = np.unique(given[thing], return_inverse=True)
        points = coord[thing].astype(np.float64)
        count = np.bincount(number)
        total = [np.bincount(number, points[:, axis]) for axis in range(3)]
        mean = np.stack(total, axis=1) / count[:, None]
        instance[thing] = number
        centroid[thing] = mean[number]
        data_dict["instance"] = instance
        data_dict["instance_centroid"] = centroid
        return data_dict
