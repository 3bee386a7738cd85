"""Video files (mp4, avi, mov, mkv, ...) through OpenCV's decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_node.camera import PinholeCamera
from training.errors import DataError
from training.prepare.frames import RawFrame, UnreadableFrame

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")

_COUNT_TOLERANCE = 0.99  # containers count frames that no decoder shows, at cuts for example


@dataclass(frozen=True)
class VideoStream:
    """Frames of a video file; stamps count from its beginning.

    Args:
        path: the file.
        camera: at any size of the same images; None where it is unknown.
    """

    path: Path
    camera: PinholeCamera | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.stem

    @property
    def source(self) -> str:
        """The file, and its camera: frames that were prepared without one are others."""
        return str(self.path) if self.camera is None else f"{self.path} camera {self.camera}"

    @property
    def expected_frames(self) -> int | None:
        """As the container counts them."""
        with _opened(self.path) as video:
            return _frame_count(video)

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        """Decoded frames; those before `first` are passed by, since not every container can be entered exactly.

        Raises:
            DataError: the file is no video that can be opened.
        """
        with _opened(self.path) as video:
            position = 0
            while video.grab():
                if position >= first:
                    yield self._read(video, position)
                position += 1
            count = _frame_count(video)
        if count is not None and position < _COUNT_TOLERANCE * count:
            yield UnreadableFrame(f"frames {position} to {count - 1}", f"{self.path} is cut off or damaged there")

    def _read(self, video: cv2.VideoCapture, position: int) -> RawFrame | UnreadableFrame:
        succeeded, image = video.retrieve()
        if not succeeded:
            return UnreadableFrame(f"frame {position}", f"{self.path} is damaged there")
        height, width = image.shape[:2]
        return RawFrame(
            rgb=np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8),
            stamp_ns=round(video.get(cv2.CAP_PROP_POS_MSEC) * 1e6),
            camera=None if self.camera is None else self.camera.resized(width, height),
        )


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise DataError(f"{path} cannot be opened as a video: it is missing, cut off, or of an unknown codec")
        yield video
    finally:
        video.release()


def _frame_count(video: cv2.VideoCapture) -> int | None:
    count = round(video.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None
