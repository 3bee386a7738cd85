"""Samples streamed from the shards that `prepare --shards` wrote, on a disk or behind a URL.

Which sample comes when is a function of seed, epoch, process and worker, so that a resumed run goes on to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from depth_node.errors import DepthNodeError
from training.data.dataset import FrameDataset
from training.data.sample import Batch, Sample
from training.data.sampling import LateDataLoader, Position, ReadableSamples
from training.data.shard_files import ShardClip, Shards
from training.data.unreadable import UnreadableFrames
from training.data.weather import Weather
from training.errors import DataError, FrameError

SHUFFLED_TARGETS = 2000
"""Targets that wait to be drawn from, of every worker: about 120 clips, 100 MB of JPEG at 640x192."""


class ShardSamples(IterableDataset["Sample | DepthNodeError"]):
    """Samples of one process, endlessly repeated and shuffled; `ShardLoader` cuts epochs out of them.

    The shards are dealt to all workers of all processes anew each epoch: no two read the same one.

    Args:
        shards: what there is.
        width, height: size of the samples in pixels.
        batch_size: samples per batch and process.
        seed: of the run; the same in all processes.
        source_offsets, depth, known_poses, min_crop, known_intrinsics, weather, instances, speed: as for
            `FrameDataset`.
        rank, world_size: this process, and how many there are.

    Raises:
        DataError: the sources are farther away than the shards keep neighbours, or there are too few frames.
    """

    def __init__(
        self,
        shards: Shards,
        width: int,
        height: int,
        batch_size: int,
        seed: int,
        source_offsets: Sequence[int] = (),
        depth: bool = False,
        known_poses: bool = False,
        min_crop: float = 1.0,
        known_intrinsics: bool = True,
        weather: Weather | None = None,
        instances: bool = False,
        speed: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        far = max(map(abs, source_offsets), default=0)
        if far > shards.neighbours:
            raise DataError(f"sources {far} frames away: the shards in {shards.base} keep {shards.neighbours}")
        self.shards, self.batch_size, self.seed = shards, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.position = Position(epoch=0, batch=0)
        self._options: dict[str, Any] = {
            "width": width,
            "height": height,
            "source_offsets": source_offsets,
            "depth": depth,
            "known_poses": known_poses,
            "min_crop": min_crop,
            "known_intrinsics": known_intrinsics,
            "camera": 0,
            "weather": weather,
            "instances": instances,
            "speed": speed,
        }
        if not self.batches:
            raise DataError(f"{shards.targets} frames in {shards.base} do not fill one batch: lower data.batch_size")

    @property
    def batches(self) -> int:
        """Batches of an epoch: as many as all targets fill, equally many in every process."""
        return self.shards.targets // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Sample | DepthNodeError]:
        """Samples from `position` on, of this worker's batches; last an error where one ends the run."""
        try:
            yield from self._samples()
        except DepthNodeError as error:
            yield error

    def _samples(self) -> Iterator[Sample]:
        info = get_worker_info()
        workers = 1 if info is None else info.num_workers
        # A loader asks its workers in turn, from worker 0 on: in mid-epoch that one has another's turn.
        worker = ((0 if info is None else info.id) + self.position.batch) % workers
        done = len(range(worker, self.position.batch, workers)) * self.batch_size
        wanted = len(range(worker, self.batches, workers)) * self.batch_size - done
        targets = islice(self._shuffled(self.rank * workers + worker, self.world_size * workers), done, None)
        yield from islice(_readable(targets, self.shards.targets), wanted)

    def _shuffled(self, consumer: int, consumers: int) -> Iterator[_Target]:
        """Targets of one consumer's shards, all of them and then again, each drawn from among `SHUFFLED_TARGETS`."""
        dealt = np.random.default_rng((self.seed, self.position.epoch)).permutation(len(self.shards.names))
        names = [self.shards.names[i] for i in dealt[consumer::consumers]]
        if not names:
            raise DataError(
                f"{len(self.shards.names)} shards in {self.shards.base} for {consumers} workers: prepare smaller"
                " shards, or lower data.workers"
            )
        draw = np.random.default_rng((self.seed, self.position.epoch, consumer))
        while True:
            waiting: list[_Target] = []
            found = 0
            for target in self._targets(names, draw):
                found += 1
                waiting.append(target)
                if len(waiting) > SHUFFLED_TARGETS:
                    yield _drawn(waiting, draw)
            while waiting:
                yield _drawn(waiting, draw)
            if not found:
                raise DataError(f"no frame of {', '.join(names)} in {self.shards.base} has what the recipe needs")

    def _targets(self, names: Sequence[str], draw: np.random.Generator) -> Iterator[_Target]:
        for name in names:
            for clip in self.shards.clips(name):
                samples = _clip_samples(clip, self._options)
                if samples is not None:
                    yield from (_Target(samples, i, int(draw.integers(2**63))) for i in range(len(samples)))


class ShardLoader(LateDataLoader):
    """A DataLoader of `ShardSamples` that begins where the run is.

    Args:
        samples: what is loaded.
        position: called when an epoch begins; its first batches, done before a restart, are left out.
        workers: processes that read and decode; each reads shards of its own.
        prefetch: batches that each worker prepares ahead.
    """

    def __init__(self, samples: ShardSamples, position: Callable[[], Position], workers: int, prefetch: int) -> None:
        super().__init__(
            samples,
            batch_size=samples.batch_size,
            num_workers=workers,
            collate_fn=ReadableSamples.collate,
            prefetch_factor=prefetch if workers else None,
            pin_memory=torch.cuda.is_available(),
        )
        self._samples, self._position = samples, position

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._samples.batches

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Batches from the run's place on; workers are started anew, with that place."""
        self._samples.position = self._position()
        yield from super().__iter__()


class _ClipSamples(FrameDataset):
    """The samples of one clip."""

    def __init__(self, clip: ShardClip, options: dict[str, Any]) -> None:
        super().__init__(clip.records, **options)
        self._frames = clip


@dataclass(frozen=True)
class _Target:
    """One sample to come, and the seed of what is drawn for it."""

    clip: _ClipSamples
    place: int
    seed: int

    def sample(self) -> Sample:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return self.clip[self.place]


def _clip_samples(clip: ShardClip, options: dict[str, Any]) -> _ClipSamples | None:
    """None where no frame of the clip can be a target."""
    try:
        return _ClipSamples(clip, options)
    except DataError:
        return None


def _drawn(waiting: list[_Target], draw: np.random.Generator) -> _Target:
    """Take one out."""
    chosen = int(draw.integers(len(waiting)))
    waiting[chosen], waiting[-1] = waiting[-1], waiting[chosen]
    return waiting.pop()


def _readable(targets: Iterator[_Target], total: int) -> Iterator[Sample]:
    """Samples, each with the reasons why those before it could not be read."""
    unreadable = UnreadableFrames(total)
    told = 0
    for target in targets:
        try:
            sample = target.sample()
        except FrameError as error:
            unreadable.add([str(error)])
            continue
        yield replace(sample, unreadable=tuple(unreadable.reasons[told:]))
        told = len(unreadable.reasons)
