"""Order and draws: functions of seed, epoch and place, whatever the workers, the processes and the restarts are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from training.data.sample import Batch, Sample
from training.data.sampling import (
    Draw,
    EpochBatches,
    LateDataLoader,
    Position,
    ReadableSamples,
    ValidationBatches,
    seed_everything_for,
)
from training.errors import DataError, FrameError

START = Position(0, 0)


def epoch(position: Position, length: int = 23, batch_size: int = 4, **process: int) -> list[list[Draw]]:
    return list(EpochBatches(length, batch_size, 5, lambda: position, **process))


def test_an_epoch_shows_every_sample_once_but_for_the_incomplete_batch() -> None:
    batches = epoch(Position(0, 0))
    assert [len(batch) for batch in batches] == [4] * 5
    indices = [draw.index for batch in batches for draw in batch]
    assert len(set(indices)) == 20
    assert set(indices) <= set(range(23))
    assert indices != sorted(indices)
    assert len({draw.seed for batch in batches for draw in batch}) == 20


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first = epoch(Position(0, 0))
    assert epoch(Position(0, 0)) == first
    assert epoch(Position(1, 0)) != first
    assert list(EpochBatches(23, 4, 6, lambda: Position(0, 0))) != first


def test_a_restart_goes_on_where_it_was() -> None:
    assert epoch(Position(2, 3)) == epoch(Position(2, 0))[3:]
    assert epoch(Position(2, 5)) == []


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batch_of_one(world_size: int) -> None:
    shares = [epoch(Position(1, 0), batch_size=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    joined = [[draw for part in parts for draw in part] for parts in zip(*shares, strict=True)]
    assert joined == epoch(Position(1, 0), batch_size=2 * world_size)


@pytest.mark.parametrize("length", [1, 5, 8, 11, 24, 25])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 30])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_sees_each_sample_once_in_equally_many_batches(
    length: int, batch_size: int, world_size: int
) -> None:
    if length < world_size:
        with pytest.raises(DataError, match=f"{length} validation frames for {world_size} processes"):
            ValidationBatches(length, batch_size, 0, world_size)
        return
    shares = [list(ValidationBatches(length, batch_size, rank, world_size)) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    assert [draw.index for share in shares for batch in share for draw in batch] == list(range(length))
    sizes = [len(batch) for share in shares for batch in share]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size + 1


@dataclass
class Drawn(Dataset[Sample]):
    """Samples whose image is what torch draws; some cannot be read."""

    length: int = 500
    unreadable: tuple[int, ...] = ()

    def __getitem__(self, index: int) -> Sample:
        if index in self.unreadable:
            raise FrameError(f"{index}.png cannot be decoded")
        image = torch.randint(256, (3, 2, 2), dtype=torch.uint8)
        return Sample(image, torch.zeros(0, 3, 2, 2, dtype=torch.uint8), torch.zeros(4), None, None, str(index))


def load(frames: Drawn, workers: int = 0, position: Position = START) -> Iterator[Batch]:
    return iter(
        LateDataLoader(
            ReadableSamples(frames, frames.length),
            batch_sampler=EpochBatches(frames.length, 50, 5, lambda: position),
            num_workers=workers,
            collate_fn=ReadableSamples.collate,
        )
    )


def test_draws_depend_neither_on_workers_nor_on_the_restart() -> None:
    torch.manual_seed(1)
    expected = list(load(Drawn()))
    torch.manual_seed(2)
    for got in (list(load(Drawn(), workers=2)), list(load(Drawn(), workers=1, position=Position(0, 4)))):
        for batch, other in zip(reversed(expected), reversed(got), strict=False):
            assert batch.names == other.names
            assert torch.equal(batch.image, other.image)
    assert expected[0].image.unique(dim=0).shape[0] == 50


def test_drawing_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    ReadableSamples(Drawn(), 500)[Draw(3, 99)]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_next_readable_frame_takes_the_place_of_others() -> None:
    samples = ReadableSamples(Drawn(unreadable=(499, 0, 7)), 500)
    sample = samples[Draw(499, 3)]
    assert isinstance(sample, Sample)
    assert sample.name == "1"
    assert sample.unreadable == ("499.png cannot be decoded", "0.png cannot be decoded")
    batch = ReadableSamples.collate([sample, samples[Draw(7, 1)]])
    assert isinstance(batch, Batch)
    assert batch.names == ("1", "8")
    assert batch.unreadable == (*sample.unreadable, "7.png cannot be decoded")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_comes_out_of_a_worker_as_it_is(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(load(Drawn(unreadable=tuple(range(500))), workers))
    assert str(caught.value).startswith("6 of 500 frames cannot be read, more than 1%: fetch or export them again")
    assert "Traceback" not in str(caught.value)


def test_the_loader_asks_late() -> None:
    """Where the run is, is known when the first batch is fetched, not when Lightning calls iter."""
    place: dict[str, Any] = {"position": Position(0, 0)}
    sampler = EpochBatches(500, 50, 5, lambda: place["position"])
    frames = ReadableSamples(Drawn(), 500)
    loader = LateDataLoader(frames, batch_sampler=sampler, collate_fn=ReadableSamples.collate)
    batches = iter(loader)
    place["position"] = Position(3, 8)
    assert len(list(batches)) == 2


def test_all_generators_are_seeded_by_the_place() -> None:
    def draw(*place: int) -> tuple[float, float, float]:
        seed_everything_for(*place)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    first = draw(5, 0, 1, 2)
    assert draw(5, 0, 1, 2) == first
    for place in ((6, 0, 1, 2), (5, 1, 1, 2), (5, 0, 2, 2), (5, 0, 1, 3), (5, 0, 12)):
        assert all(a != b for a, b in zip(draw(*place), first, strict=True))


class _Pictures(Dataset[int]):
    """Samples whose making uses OpenCV's threads, where there are any."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return int(cv2.GaussianBlur(np.full((600, 600, 3), index, np.uint8), (31, 31), 0)[300, 300, 0])


@pytest.mark.timeout(60)
def test_workers_start_after_opencv_had_threads() -> None:
    """A forked process that ends OpenCV's pool waits for ever for threads it does not have."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(8)
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 0)
        batches = list(LateDataLoader(_Pictures(), batch_size=2, num_workers=2, collate_fn=list))
        assert batches == [[0, 1], [2, 3]]
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
