"""Compiled models on disk: one folder each, the least recently used ones out, safe among several processes."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from depth_node.errors import DepthNodeError
from depth_node.resources import cache_directory

LIMIT_BYTES = 512 * 2**20
# Longer than it takes to compile a model; a process that hangs there holds the lock for ever.
PATIENCE_S = 20.0
_POLL_S = 0.02

_LOGGER = logging.getLogger(__name__)


@contextmanager
def model_cache(name: str, key: str) -> Iterator[Path | None]:
    """A folder for one compiled model, `name`/`key` in the user's cache; no other process is in that cache meanwhile.

    Before, the models that were not used for longest are removed until the others are within `LIMIT_BYTES`.
    None where there is no cache to be had, for a reason that is logged.
    """
    folder: Path | None = None
    with ExitStack() as stack:
        try:
            root = cache_directory(name)
            descriptor = os.open(root, os.O_RDONLY)
            stack.callback(os.close, descriptor)  # and with it the lock
            _lock(descriptor, root)
            folder = cache_directory(f"{name}/{key}")
            os.utime(folder)
            _remove_oldest(root, spared=folder)
        except (DepthNodeError, OSError) as error:
            _LOGGER.warning("compiling the model without a cache, which takes longer at every start: %s", error)
            folder = None
        yield folder


def _lock(descriptor: int, root: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held {root} for more than {PATIENCE_S:g} s") from None
            time.sleep(_POLL_S)


def _remove_oldest(root: Path, spared: Path) -> None:
    others = [folder for folder in root.iterdir() if folder != spared and folder.is_dir() and not folder.is_symlink()]
    total = _bytes(spared)
    for folder in sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True):
        total += _bytes(folder)
        if total > LIMIT_BYTES:
            shutil.rmtree(folder)


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
