"""What a machine lacks becomes an error that says what to do; other errors stay what they are."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from training.errors import DataError, DiskFullError, MemoryExhaustedError
from training.failures import explained_failures


def test_full_disk() -> None:
    advice = r"No space left.*set --runs to another disk.*--resume"
    with pytest.raises(DiskFullError, match=advice), explained_failures():
        Path("/dev/full").write_text("anything")


def test_full_disk_behind_another_error() -> None:
    error = RuntimeError("saving failed")
    error.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(DiskFullError, match="quota"), explained_failures():
        raise error


def test_gpu_memory() -> None:
    with pytest.raises(MemoryExhaustedError, match=r"GPU.*lower data.batch_size.*bf16-mixed"), explained_failures():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def test_memory_that_torch_cannot_get() -> None:
    with pytest.raises(MemoryExhaustedError, match=r"memory does not suffice.*data.cache none"), explained_failures():
        torch.empty(2**58, dtype=torch.uint8)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_memory(error: Exception) -> None:
    with pytest.raises(MemoryExhaustedError, match=r"memory does not suffice.*data.workers"), explained_failures():
        raise error


class Killed(Dataset[int]):
    """A sample whose worker is killed, as the kernel does it."""

    def __getitem__(self, index: int) -> int:

        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def __len__(self) -> int:
        return 2


def test_killed_worker() -> None:
    advice = r"a data worker was killed.*lower data.workers"
    with pytest.raises(MemoryExhaustedError, match=advice), explained_failures():
        list(DataLoader(Killed(), num_workers=1))


def test_shared_memory() -> None:
    text = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out"
    with pytest.raises(MemoryExhaustedError, match=r"shared memory.*--shm-size"), explained_failures():
        raise RuntimeError(text)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), FileNotFoundError("a"), DataError("b"), KeyError("c")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explained_failures():
        raise error
    assert caught.value is error
