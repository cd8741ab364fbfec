"""Order and randomness of samples as functions of seed, epoch and index."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from .env import derive_seed, seeded


class EpochSampler(Sampler):
    """Yield ``(epoch, index)`` in an order that seed and epoch alone decide.

    The epoch travels with the index, so that worker processes that outlive an epoch
    know it too. Ranks take every ``world_size``-th sample; the last ones are repeated
    so that all have equally many.
    """

    def __init__(
        self, size: int, seed: int, shuffle: bool, rank: int = 0, world_size: int = 1
    ):
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.size)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        order = np.resize(order, len(self) * self.world_size)
        for index in order[self.rank :: self.world_size]:
            yield self.epoch, int(index)


class SeededDataset(Dataset):
    """A dataset whose augmentation of a sample depends on its place alone."""

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, index = place
        with seeded(derive_seed(self.seed, epoch, index)):
            return place, self.dataset[index]


class SeededCollate:
    """A collate function whose own randomness depends on its batch alone."""

    def __init__(self, collate: Callable, seed: int):
        self.collate = collate
        self.seed = seed

    def __call__(self, batch: list[tuple[tuple[int, int], Any]]) -> Any:
        (epoch, index), _ = batch[0]
        with seeded(derive_seed(self.seed, epoch, index, len(batch))):
            return self.collate([sample for _, sample in batch])
