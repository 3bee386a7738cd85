"""What a run died of, said so that its user can mend it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from training.errors import DiskFullError, MemoryExhaustedError, TrainingError


@dataclass(frozen=True)
class Lack:
    """Something that a machine can run out of: how that shows, what it is called, what helps."""

    shows: Callable[[BaseException], bool]
    error: type[TrainingError]
    what: str
    help: str


def _has_number(*numbers: int) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, OSError) and error.errno in numbers


def _says(pattern: str) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, RuntimeError) and bool(re.search(pattern, str(error), re.DOTALL))


LESS_MEMORY = "set data.cache none, lower data.workers or data.batch_size"

LACKS = (
    Lack(
        _has_number(errno.ENOSPC, errno.EDQUOT),
        DiskFullError,
        "no space left on the disk",
        "free some, or set --runs to another disk",
    ),
    Lack(
        lambda error: isinstance(error, torch.OutOfMemoryError),
        MemoryExhaustedError,
        "the memory of the GPU does not suffice",
        "lower data.batch_size, and raise trainer.accumulate_grad_batches to keep the samples per step; or set "
        "--trainer.precision bf16-mixed",
    ),
    Lack(
        _says(r"Bus error|/dev/shm|shared memory|torch_shm_manager"),
        MemoryExhaustedError,
        "shared memory does not suffice for the data workers",
        "lower data.workers, or give the container more (docker run --shm-size 8g)",
    ),
    Lack(
        lambda error: (
            isinstance(error, MemoryError)
            or _has_number(errno.ENOMEM)(error)
            or _says("can't allocate memory|Cannot allocate memory")(error)
        ),
        MemoryExhaustedError,
        "memory does not suffice",
        LESS_MEMORY,
    ),
    Lack(
        _says(r"DataLoader worker .*(exited unexpectedly|is killed by signal: Killed)"),
        MemoryExhaustedError,
        "a data worker was killed, most often since memory does not suffice (`dmesg | grep -i oom` tells)",
        LESS_MEMORY,
    ),
)


@contextmanager
def explained_failures() -> Iterator[None]:
    """Turn what a machine lacks into a typed error that says what to do.

    Raises:
        DiskFullError: the disk, or what the user may fill of it, is full.
        MemoryExhaustedError: memory of the machine, shared memory or memory of the GPU does not suffice.
    """
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        for cause in _chain(error):
            for lack in LACKS:
                if lack.shows(cause):
                    raise lack.error(_message(lack, cause)) from error
        raise


def _message(lack: Lack, error: BaseException) -> str:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"{lack.what} ({first_line}): {lack.help}; then go on with --resume and the run's last.ckpt, "
        "which is whole where there is one"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
