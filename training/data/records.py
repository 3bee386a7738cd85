"""What a data set reader returns: one `FrameRecord` per image, with where its depth, pose and stereo partner are.

Records hold paths and small matrices, never pixels, so that a reader of 40,000 frames is quick and its list is cheap
to send to worker processes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from training.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
KITTI_FRAME_PERIOD_NS = 100_000_000

Intrinsics = tuple[float, float, float, float]
"""Normalised by image size: (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H)."""

Matrix = NDArray[np.float64]


class DepthSource(Protocol):
    """Where the true depth of a frame comes from."""

    def read(self) -> NDArray[np.float32]:
        """Depth along z in metres, float32 [H, W] at the truth's own resolution, 0 where there is none."""


class SpeedSource(Protocol):
    """Where the speed of a frame's camera comes from."""

    def read(self) -> float | None:
        """m/s; None where it turns out to be unknown."""


@dataclass(frozen=True)
class KnownSpeed:
    """A speed that is in memory, m/s."""

    value: float

    def read(self) -> float:
        """As it is."""
        return self.value


@dataclass(frozen=True)
class StereoView:
    """The image that the other camera of a rectified pair took at the same instant.

    T_other_this: float64 [4, 4], metres, maps points from this camera's frame to the other's.
    """

    image: Path
    T_other_this: Matrix = field(compare=False)


@dataclass(frozen=True)
class FrameRecord:
    """One image of a sequence.

    intrinsics: normalised (fx/W, fy/H, (cx + 0.5)/W, (cy + 0.5)/H), None where the camera is unknown.
    sequence, index: the frame number within its sequence. Neighbours are index - k and index + k of the same
        sequence; a number that no record has is a gap in the recording.
    stamp_ns: nanoseconds, of the recording's clock or, where there is none, index times the frame period.
    pose: T_world_camera, float64 [4, 4], metres; the world frame is the sequence's own.
    speed: where the camera's speed is told.
    instances: its instance mask, see `training.data.instance_files`.
    is_target: False for a frame that is there only as a neighbour of listed ones, never to be learned from itself.
    """

    image: Path
    intrinsics: Intrinsics | None
    sequence: str
    index: int
    stamp_ns: int
    pose: Matrix | None = field(default=None, compare=False)
    depth: DepthSource | None = None
    stereo: StereoView | None = None
    speed: SpeedSource | None = None
    instances: Path | None = None
    is_target: bool = True

    @property
    def name(self) -> str:
        """`SEQUENCE/INDEX`, unique within a data set."""
        return f"{self.sequence}/{self.index:010d}"


class MissingFiles:
    """Collects the files that a data set should have and has not, and reports them in one warning."""

    SHOWN = 5

    def __init__(self, dataset: str, root: Path) -> None:
        self.dataset, self.root = dataset, root
        self.paths: dict[str, list[Path]] = {}

    def add(self, kind: str, path: Path) -> None:
        """Note a missing `path`; `kind` says what it would have been, in the singular ("depth")."""
        self.paths.setdefault(kind, []).append(path)

    def warn(self, logger: logging.Logger) -> None:
        """Log the count and the first names of each kind, and all names at debug level."""
        for kind, paths in self.paths.items():
            names = ", ".join(str(self._short(path)) for path in paths[: self.SHOWN])
            more = f" and {len(paths) - self.SHOWN} more" if len(paths) > self.SHOWN else ""
            logger.warning("%s in %s: %d missing (%s): %s%s", self.dataset, self.root, len(paths), kind, names, more)
            for path in paths[self.SHOWN :]:
                logger.debug("%s: missing (%s): %s", self.dataset, kind, path)

    def _short(self, path: Path) -> Path:
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path


def image_files(folder: Path) -> list[Path]:
    """Images directly in `folder`, sorted by name; empty where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def numbered_images(folder: Path) -> dict[int, Path]:
    """Frame number -> image, for a folder of images that are named by their number alone (KITTI), in order."""
    return {int(path.stem): path for path in image_files(folder) if path.stem.isdecimal()}


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the file's header.

    Raises:
        DataError: `path` is not a readable image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path} is not a readable image ({error}): fetch or export it again") from error


def missing_numbers(numbers: list[int]) -> list[int]:
    """Gaps in an ascending list of frame numbers."""
    present = set(numbers)
    return [number for number in range(numbers[0], numbers[-1]) if number not in present] if numbers else []


def translation(x: float, y: float, z: float) -> Matrix:
    """A pure translation as a transform, float64 [4, 4]."""
    matrix = np.eye(4)
    matrix[:3, 3] = (x, y, z)
    return matrix
