"""A damaged bag file, opened for reading."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
from rosbags.rosbag1.reader import ReaderError

from depth_node.bags import Bag
from depth_node.errors import BagError
from training.prepare.salvage.db3 import SalvagedDb3
from training.prepare.salvage.mcap import SalvagedMcap
from training.prepare.salvage.ros1 import SalvagedRos1


class SalvagedBag(Bag):
    """What can be read of a bag file; `readable_share` of its bytes."""

    def __init__(self, path: Path, reader: SalvagedMcap | SalvagedDb3 | SalvagedRos1) -> None:
        super().__init__(path, reader)
        self.readable_share = reader.readable_share


@contextmanager
def open_salvaged(path: Path) -> Iterator[SalvagedBag]:
    """The bag file at `path` with whatever of it can be read.

    Raises:
        BagError: nothing can be read.
    """
    reader: SalvagedMcap | SalvagedDb3 | SalvagedRos1
    try:
        if path.suffix == ".mcap":
            reader = SalvagedMcap(path)
        elif path.suffix == ".db3":
            reader = SalvagedDb3(path)
        else:
            reader = SalvagedRos1(path)
            reader.open()
    except (OSError, apsw.Error, ReaderError, struct.error) as error:
        raise BagError(f"nothing of bag {path} can be read: {error}") from error
    try:
        yield SalvagedBag(path, reader)
    finally:
        reader.close()
