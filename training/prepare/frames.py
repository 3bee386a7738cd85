"""What every recording gives to `prepare`: a stream of frames in the order of time, and what is asked of the writer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from training.data.records import Matrix
from training.errors import DataError


@dataclass(frozen=True)
class RawStereo:
    """The image that the other camera of a rectified pair took at the same instant.

    rgb: uint8 [H, W, 3], of the same size and camera matrix as the frame's own image.
    T_other_this: float64 [4, 4], metres, maps points from this camera's frame to the other's.
    """

    rgb: NDArray[np.uint8]
    T_other_this: Matrix


@dataclass(frozen=True)
class RawFrame:
    """One decoded frame of a recording.

    Args:
        rgb: uint8 [H, W, 3].
        stamp_ns: nanoseconds, of the recording's clock or, where there is none, position times the frame period.
        camera: the camera of `rgb`, at its size; it may be distorted. None where it is unknown.
        depth: float32 [h, w], metres along z, 0 where there is none; it shows what `rgb` shows, at a resolution of
            its own, with the same lens distortion.
        pose: T_world_camera, float64 [4, 4], metres.
        speed: of the camera, m/s.
        stereo: what the other camera of a rectified pair saw.
        name: what the recording calls this frame, so that lists of frames find it: `SEQUENCE/INDEX` as
            `FrameRecord.name` where a reader of the recording itself gives one, otherwise empty.
        is_target: False for a frame that is wanted only as a neighbour of others (`FrameRecord.is_target`).
    """

    rgb: NDArray[np.uint8]
    stamp_ns: int
    camera: PinholeCamera | None = None
    depth: NDArray[np.float32] | None = None
    pose: Matrix | None = None
    speed: float | None = None
    stereo: RawStereo | None = None
    name: str = ""
    is_target: bool = True


@dataclass(frozen=True)
class UnreadableFrame:
    """A frame that the recording has and that cannot be decoded, or all that is lost where a recording is cut off."""

    name: str
    reason: str


class FrameStream(Protocol):
    """The frames of one recording.

    Implementations are small and picklable: they open their files in `frames`, which runs in a worker process.
    """

    @property
    def name(self) -> str:
        """Name of the sequence, and of its folder below the output; `/` separates levels."""

    @property
    def source(self) -> str:
        """What the sequence is made from (a file or folder, a topic), for the index."""

    @property
    def expected_frames(self) -> int | None:
        """How many frames there are, for a progress bar; None where only reading tells."""

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        """Frames in order, from position `first` on; positions count unreadable frames, too.

        The same position gives the same frame every time: a preparation that was killed goes on by it.
        """


@dataclass(frozen=True)
class PrepareOptions:
    """How prepared frames are made. All images of one output are alike: only the last two may differ by sequence.

    Args:
        width: width of the prepared images in pixels; that of the training.
        height: height of the prepared images in pixels.
        format: of the images: jpg, or png for no loss at about five times the size.
        quality: of JPEG images, 1 to 100.
        chroma: colour resolution of JPEG images: 444 in full, 420 halved both ways.
        rectify: undo lens distortion; otherwise images stay distorted and the index says so.
        keep_still: keep frames in which the camera does not move.
        max_gap: a sequence is split where two frames that are kept are more than this many seconds apart.

    Raises:
        DataError: a value is out of its range.
    """

    width: int = 640
    height: int = 192
    format: Literal["jpg", "png"] = "jpg"
    quality: int = 92
    chroma: Literal["444", "420"] = "444"
    rectify: bool = True
    keep_still: bool = False
    max_gap: float = 0.5

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or max(self.width, self.height) > 65500:
            raise DataError(f"prepared frames of {self.width}x{self.height}: expected 1 to 65500 pixels each way")
        if not 1 <= self.quality <= 100:
            raise DataError(f"quality is {self.quality}; expected 1 to 100")
        if not self.max_gap > 0:
            raise DataError(f"max_gap is {self.max_gap}; expected seconds above 0")


@dataclass(frozen=True)
class PrepareSummary:
    """What became of the frames of one recording.

    Args:
        written: frames in the output, those of earlier runs included.
        skipped_still: frames left out because the camera stood still.
        gaps: how often the sequence was split.
        unreadable: `NAME: REASON` of each frame that could not be decoded.
    """

    written: int = 0
    skipped_still: int = 0
    gaps: int = 0
    unreadable: tuple[str, ...] = field(default=())
