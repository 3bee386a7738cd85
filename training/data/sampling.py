"""Which sample comes when, and what is drawn for it: functions of seed, epoch and place, and of nothing else.

Neither the number of workers nor the place at which a stopped run goes on changes them, so that a checkpoint needs no
state of generators: seed, epoch and the number of batches done say all.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from depth_node.errors import DepthNodeError
from training.data.sample import Batch, Sample
from training.data.unreadable import UnreadableFrames
from training.errors import DataError, FrameError


@dataclass(frozen=True)
class Draw:
    """A sample of a dataset, and the seed of what is drawn for it (the crop)."""

    index: int
    seed: int


@dataclass(frozen=True)
class Position:
    """Where a run is: its epoch, and the batches of this epoch that are done."""

    epoch: int
    batch: int


class EpochBatches(Sampler[list[Draw]]):
    """Shuffled batches of one process, every sample once an epoch; the incomplete last batch is dropped.

    The batches that the processes of a run get for one step are, joined, the batch that one process alone would get
    with `batch_size * world_size`.

    Args:
        length: samples of the dataset.
        batch_size: samples per batch and process.
        seed: of the run; the same in all processes.
        position: called when an epoch begins; its first batches, done before a restart, are left out.
        rank, world_size: this process, and how many there are.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        position: Callable[[], Position],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed, self.position = length, batch_size, seed, position
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.length // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        position = self.position()
        generator = np.random.default_rng((self.seed, position.epoch))
        order = generator.permutation(self.length)
        seeds = generator.integers(2**63, size=self.length)
        for batch in range(position.batch, len(self)):
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield [Draw(int(index), int(seeds[index])) for index in order[start : start + self.batch_size]]


class ValidationBatches(Sampler[list[Draw]]):
    """All samples in order, each in one process only, in equally many batches of every process.

    Equally many, since the processes of a run wait for each other at every batch. Batches differ by one sample where
    the samples cannot be divided evenly, and are larger than asked for where there would be an empty one.

    Raises:
        DataError: there are fewer samples than processes.
    """

    def __init__(self, length: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if length < world_size:
            raise DataError(f"{length} validation frames for {world_size} processes: give each at least one")
        count = min(-(-length // (batch_size * world_size)), length // world_size)
        self.batches = np.array_split(np.arange(length), count * world_size)[rank * count : (rank + 1) * count]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.batches:
            yield [Draw(int(index), int(index)) for index in batch]


class ReadableSamples(Dataset["Sample | DepthNodeError"]):
    """Samples as `Draw` asks for them. Where a frame cannot be read, the next one that can takes its place.

    An error that ends a run is returned, not raised: a DataLoader would make text of it on its way out of a worker.
    """

    def __init__(self, samples: Dataset[Sample], length: int) -> None:
        self.samples, self.length = samples, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Draw) -> Sample | DepthNodeError:
        unreadable = UnreadableFrames(self.length)
        for index in range(draw.index, draw.index + self.length):
            try:
                with seeded_torch(draw.seed):
                    sample = self.samples[index % self.length]
                return replace(sample, unreadable=tuple(unreadable.reasons))
            except FrameError as error:
                try:
                    unreadable.add([str(error)])
                except DataError as too_many:
                    return too_many
            except DepthNodeError as error:
                return error
        return DataError(f"none of {self.length} frames can be read")

    @staticmethod
    def collate(samples: Sequence[Sample | DepthNodeError]) -> Batch | DepthNodeError:
        """The batch, or the first error among its samples."""
        good: list[Sample] = []
        for sample in samples:
            if isinstance(sample, DepthNodeError):
                return sample
            good.append(sample)
        try:
            return Batch.collate(good)
        except DataError as error:
            return error


class LateDataLoader(DataLoader[Any]):
    """A DataLoader that asks for its first batch when that is wanted, not at `iter`.

    Lightning calls `iter` before it has restored the place of a resumed run. Errors that samples bring are raised.
    OpenCV works with one thread from then on: decoders are as many as there are workers.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if self.num_workers:
            # Not in the workers: a fork copies OpenCV's pool without its threads, and ending it would wait for them.
            cv2.setNumThreads(1)
        for batch in super().__iter__():
            if isinstance(batch, DepthNodeError):
                raise batch
            yield batch


def seed_everything_for(*place: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) by a run's seed and a place in the run."""
    state = np.random.SeedSequence(place).generate_state(4)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))  # noqa: NPY002  # whoever draws from NumPy's global generator is seeded, too
    torch.manual_seed((int(state[2]) << 31) ^ int(state[3]))


def digest(names: Sequence[str]) -> int:
    """A number that depends on the names alone."""
    return zlib.crc32("\n".join(names).encode())


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """torch's generator on the CPU, seeded; after that as it was."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
