"""Streams of frames for tests of processes: they can be sent to one, and some end it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bag_drive
from depth_node.errors import BagError
from training.prepare.frames import RawFrame


@dataclass(frozen=True)
class Drive:
    """Frames of the drive, one after another.

    Args:
        count: number of frames.
        seconds: that each of them takes.
        journal: file that gets a line with process id and position for each frame that is read.
    """

    name: str
    count: int = 8
    seconds: float = 0.0
    journal: Path | None = None

    @property
    def source(self) -> str:
        return "a drive"

    @property
    def expected_frames(self) -> int:
        return self.count

    def frames(self, first: int) -> Iterator[RawFrame]:
        for number in range(first, self.count):
            time.sleep(self.seconds)
            if self.journal is not None:
                with self.journal.open("a") as file:
                    file.write(f"{os.getpid()} {number}\n")
            self.before(number)
            yield RawFrame(bag_drive.pixels(number), bag_drive.stamp(number), bag_drive.CAMERA)

    def before(self, number: int) -> None:
        """What happens before a frame."""


@dataclass(frozen=True)
class Deadly(Drive):
    """Kills its process before frame 5, `times` times; `deaths` counts them."""

    times: int = 1
    deaths: Path = Path()

    def before(self, number: int) -> None:
        done = len(self.deaths.read_text()) if self.deaths.exists() else 0
        if number == 5 and done < self.times:
            self.deaths.write_text("x" * (done + 1))
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Unusable(Drive):
    """A recording without what is asked of it."""

    def before(self, number: int) -> None:
        raise BagError("no image topic /front")


@dataclass(frozen=True)
class Faulty(Drive):
    """A recording that the program cannot handle."""

    def before(self, number: int) -> None:
        raise ZeroDivisionError(f"at frame {number}")
