"""Order and randomness of samples as functions of seed, epoch and index."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from pointins_plugin.errors import UserError

from .env import derive_seed, seeded
from .signals import outlive_stop_signals


class EpochSampler(Sampler):
    """Yield ``(epoch, index)`` in an order that seed and epoch alone decide.

    The epoch travels with the index, so that worker processes that outlive an epoch
    know it too. Ranks take every ``world_size``-th sample; the last ones are repeated
    so that all have equally many.

    Args:
        size: samples of the dataset.
        seed: of the run.
        shuffle: whether the order is drawn.
        rank: whose samples these are.
        world_size: ranks in all.
        multiple: of which an epoch has samples, the last ones of its order being left
            out; with the size of a batch, it has the same batches on any number of
            ranks. At most ``size``.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        multiple: int = 1,
    ):
        self.size = size
        self.length = size // multiple * multiple
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Move to an epoch, past ``skip`` samples of each rank that it has had."""
        self.epoch = epoch
        self.skip = skip

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.size)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        order = np.resize(order[: self.length], len(self) * self.world_size)
        for index in order[self.rank :: self.world_size][self.skip :]:
            yield self.epoch, int(index)


class SeededDataset(Dataset):
    """A dataset whose augmentation of a sample depends on its place alone.

    A ``UserError`` takes the place of its sample, because torch would wrap one that a
    worker raises in a traceback; ``SeededLoader`` raises it.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, index = place
        with seeded(derive_seed(self.seed, epoch, index)):
            try:
                return place, self.dataset[index]
            except UserError as error:
                return place, error


class SeededCollate:
    """A collate function whose own randomness depends on its batch alone."""

    def __init__(self, collate: Callable, seed: int):
        self.collate = collate
        self.seed = seed

    def __call__(self, batch: list[tuple[tuple[int, int], Any]]) -> Any:
        for _, sample in batch:
            if isinstance(sample, UserError):
                return sample
        (epoch, index), _ = batch[0]
        with seeded(derive_seed(self.seed, epoch, index, len(batch))):
            try:
                return self.collate([sample for _, sample in batch])
            except UserError as error:
                return error


class SeededLoader(DataLoader):
    """A loader of batches that depend on their place alone, whatever the workers.

    Args:
        dataset: any dataset.
        collate: makes a batch of samples.
        seed: seed of the run.
        sampler: gives the places of samples.
        options: keyword arguments of torch's loader.
    """

    def __init__(
        self,
        dataset: Dataset,
        collate: Callable,
        seed: int,
        sampler: EpochSampler,
        **options: Any,
    ):
        super().__init__(
            SeededDataset(dataset, seed),
            sampler=sampler,
            collate_fn=SeededCollate(collate, seed),
            worker_init_fn=outlive_stop_signals,
            **options,
        )

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch
