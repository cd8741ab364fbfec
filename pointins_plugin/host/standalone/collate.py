"""Batches of scenes, by Pointcept's rules."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data.dataloader import default_collate

from pointins_plugin.errors import UserError


def collate_fn(batch: Sequence) -> Any:
    """Join samples: tensors are concatenated along their first axis.

    Of dictionaries every entry is joined; entries whose name contains ``offset`` hold
    counts and become cumulative over the batch. Strings become a list.

    Raises:
        UserError: samples with different entries.
    """
    if not isinstance(batch, Sequence):
        raise TypeError(f"a batch is a sequence, not {type(batch).__name__}")
    first = batch[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(batch))
    if isinstance(first, str):
        return list(batch)
    if isinstance(first, Mapping):
        for sample in batch:
            if lacking := first.keys() ^ sample.keys():
                raise UserError(
                    f"batch: some samples have {sorted(lacking)}, others do not; let "
                    "every dataset collect the same keys"
                )
        joined = {key: collate_fn([sample[key] for sample in batch]) for key in first}
        for key in joined:
            if "offset" in key:
                # A sample of several views already counts cumulatively.
                counts = [
                    torch.diff(sample[key], prepend=sample[key].new_zeros(1))
                    for sample in batch
                ]
                joined[key] = torch.cumsum(torch.cat(counts), dim=0)
        return joined
    if isinstance(first, list):
        return torch.cat([torch.as_tensor(sample) for sample in batch])
    if isinstance(first, Sequence):
        samples = [[*sample, torch.tensor([len(sample[0])])] for sample in batch]
        joined = [collate_fn(entries) for entries in zip(*samples, strict=True)]
        joined[-1] = torch.cumsum(joined[-1], dim=0).int()
        return joined
    return default_collate(batch)


def point_collate_fn(batch: Sequence, mix_prob: float = 0) -> Any:
    """Join samples; with probability ``mix_prob`` mix pairs of scenes into one (Mix3D).

    Instances of the second scene of a pair are numbered after those of the first (in
    Pointcept the last of the one and the first of the other share a number), and where
    ``grid_size`` is known ``grid_coord`` is counted anew from the corner of the mixed
    scene.

    Raises:
        UserError: the samples are views, whose matrices would not survive, or have
            different entries.
    """
    if not isinstance(batch[0], Mapping):
        raise TypeError("point_collate_fn joins dictionaries")
    joined = collate_fn(batch)
    if random.random() >= mix_prob:
        return joined
    counts = {key: len(joined[key]) for key in joined if "offset" in key}
    if "offset" not in counts or len(set(counts.values())) > 1:
        raise UserError(
            "config: mix_prob mixes whole scenes, but samples here hold several views: "
            "set mix_prob = 0"
        )
    start, count = 0, 0
    for index, end in enumerate(joined["offset"].tolist()):
        if "instance" in joined:
            part = joined["instance"][start:end]
            if index % 2 == 0:
                count = int(part.max()) + 1 if len(part) else 0
            else:
                part[part != -1] += count
        start = end
    for key in counts:
        joined[key] = torch.cat([joined[key][1:-1:2], joined[key][-1:]])
    if "grid_coord" in joined and "grid_size" in joined:
        joined["grid_coord"] = _grid_coord(joined)
    return joined


def _grid_coord(batch: Mapping) -> torch.Tensor:
    cell = torch.floor(batch["coord"] / batch["grid_size"][0]).long()
    count = torch.diff(batch["offset"], prepend=batch["offset"].new_zeros(1))
    clouds = cell.split(count.tolist())
    return torch.cat([c - c.amin(0) if len(c) else c for c in clouds])
