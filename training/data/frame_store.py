"""Decoded frames: from their files each time, or all of them in memory from the start."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.image_files import read_rgb
from training.data.instance_files import read_instances
from training.data.records import FrameRecord
from training.errors import DataError, FrameError

logger = logging.getLogger(__name__)

Size = tuple[int, int]  # width, height in pixels
Result = TypeVar("Result")


class FrameStore(Protocol):
    """Where a dataset gets its frames from. All methods raise FrameError where a file cannot be read."""

    def image(self, path: Path) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], RGB."""

    def depth(self, record: FrameRecord) -> NDArray[np.floating]:
        """Metres [H, W], 0 where unknown."""

    def instances(self, record: FrameRecord) -> NDArray[np.uint8]:
        """uint8 [H, W], 0 for none."""


class FrameFiles:
    """Frames read from their files whenever they are asked for."""

    def image(self, path: Path) -> NDArray[np.uint8]:
        """As the file has it."""
        return read_rgb(path)

    def depth(self, record: FrameRecord) -> NDArray[np.floating]:
        """As its source has it."""
        return read_depth(record)

    def instances(self, record: FrameRecord) -> NDArray[np.uint8]:
        """As the file has it."""
        return read_record_instances(record)


class FramesInMemory:
    """Frames read at once, reduced to at most `size`, and kept; depth as float16.

    Each kind lies in one tensor, which worker processes share: forked ones have the pages of their parent, others get
    shared memory from torch. What cannot be read is tried again, and fails again, where it is asked for.

    Raises:
        DataError: they do not fit into memory.
    """

    def __init__(
        self, images: Sequence[Path], depths: Sequence[FrameRecord], size: Size, instances: Sequence[FrameRecord] = ()
    ) -> None:
        width, height = size
        needed = width * height * (3 * len(images) + 2 * len(depths) + len(instances))
        check_room(needed, available_memory(), f"{len(images)} frames", "memory")
        self._images = torch.empty((len(images), height, width, 3), dtype=torch.uint8)
        self._depths = torch.empty((len(depths), height, width), dtype=torch.float16)
        self._instances = torch.empty((len(instances), height, width), dtype=torch.uint8)
        read_images = [partial(_read_image_within, path, size) for path in images]
        read_depths = [partial(_read_depth_within, record, size) for record in depths]
        read_masks = [partial(_read_instances_within, record, size) for record in instances]
        with reading(f"{len(images)} frames"):
            image_sizes = at_once(partial(_keep, self._images), read_images)
            depth_sizes = at_once(partial(_keep, self._depths), read_depths)
            mask_sizes = at_once(partial(_keep, self._instances), read_masks)
        self._image_places = _places(images, image_sizes)
        self._depth_places = _places([record.name for record in depths], depth_sizes)
        self._instance_places = _places([record.name for record in instances], mask_sizes)

    def image(self, path: Path) -> NDArray[np.uint8]:
        """The kept image."""
        return _placed(self._images, self._image_places[path]) if path in self._image_places else read_rgb(path)

    def depth(self, record: FrameRecord) -> NDArray[np.floating]:
        """The kept depth."""
        known = record.name in self._depth_places
        return _placed(self._depths, self._depth_places[record.name]) if known else read_depth(record)

    def instances(self, record: FrameRecord) -> NDArray[np.uint8]:
        """The kept mask."""
        known = record.name in self._instance_places
        return _placed(self._instances, self._instance_places[record.name]) if known else read_record_instances(record)


def read_depth(record: FrameRecord) -> NDArray[np.float32]:
    """Depth of a frame as its source has it.

    Raises:
        DataError: the frame has none. FrameError: its file cannot be read.
    """
    if record.depth is None:
        raise DataError(f"{record.name} has no depth")
    return record.depth.read()


def read_record_instances(record: FrameRecord) -> NDArray[np.uint8]:
    """Instance mask of a frame, uint8 [H, W], 0 for none.

    Raises:
        DataError: the frame has none. FrameError: its file cannot be read.
    """
    if record.instances is None:
        raise DataError(f"{record.name} has no instance mask")
    return read_instances(record.instances)


def at_once(keep: Callable[[int, Any], Result], read: Sequence[Callable[[], Any]]) -> list[Result | FrameError]:
    """keep(i, read[i]()) for all i, in threads (decoders release the GIL); the FrameError of what cannot be read."""

    def run(index: int) -> Result | FrameError:
        try:
            return keep(index, read[index]())
        except FrameError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(run, range(len(read))))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say what is read and how long it took; meanwhile OpenCV starts no threads, which would not survive a fork."""
    started, threads = perf_counter(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
    logger.info("%s read in %.0f s", what, perf_counter() - started)


def check_room(needed: int, available: int | None, what: str, where: str) -> None:
    """Refuse to fill a memory beyond what it has.

    Raises:
        DataError: `needed` bytes are more than are available (None: unknown).
    """
    if available is not None and needed > available:
        raise DataError(
            f"{what} need {needed / 2**30:.1f} GiB of {where}, and {available / 2**30:.1f} GiB are free: "
            "set data.cache: none, or train at a smaller size"
        )


def available_memory() -> int | None:
    """Bytes that a process can still get; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    amounts = dict(line.split(":", 1) for line in lines)
    return int(amounts["MemAvailable"].split()[0]) * 1024


def _read_image_within(path: Path, size: Size) -> NDArray[np.uint8]:
    return np.asarray(_reduced(read_rgb(path), size, cv2.INTER_AREA), np.uint8)


def _read_depth_within(record: FrameRecord, size: Size) -> NDArray[np.float16]:
    return _reduced(read_depth(record), size, cv2.INTER_NEAREST_EXACT).astype(np.float16)


def _read_instances_within(record: FrameRecord, size: Size) -> NDArray[np.uint8]:
    return np.asarray(_reduced(read_record_instances(record), size, cv2.INTER_NEAREST_EXACT), np.uint8)


def _reduced(image: NDArray[Any], size: Size, interpolation: int) -> NDArray[Any]:
    height, width = image.shape[:2]
    smaller = min(width, size[0]), min(height, size[1])
    return image if smaller == (width, height) else np.asarray(cv2.resize(image, smaller, interpolation=interpolation))


def _keep(store: Tensor, slot: int, image: NDArray[Any]) -> Size:
    height, width = image.shape[:2]
    store[slot, :height, :width] = torch.from_numpy(image)
    return width, height


def _places(names: Sequence[Hashable], sizes: Sequence[Size | FrameError]) -> dict[Any, tuple[int, Size]]:
    return {
        name: (slot, size)
        for slot, (name, size) in enumerate(zip(names, sizes, strict=True))
        if not isinstance(size, FrameError)
    }


def _placed(store: Tensor, place: tuple[int, Size]) -> NDArray[Any]:
    slot, (width, height) = place
    kept: NDArray[Any] = store[slot, :height, :width].numpy()
    return kept
