"""One recording into the prepared format: what is kept, where a sequence is split, and how a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from depth_node.camera import PinholeCamera
from training.errors import DataError
from training.prepare.format import (
    Header,
    IndexWriter,
    KeptFrame,
    claim_output,
    depth_file,
    image_file,
    read_index,
    stereo_file,
    write_atomically,
)
from training.prepare.frames import FrameStream, PrepareOptions, PrepareSummary, RawFrame, UnreadableFrame
from training.prepare.images import encoded_depth, encoded_image, rectified, resized, resized_depth, undistorted
from training.prepare.motion import STILL_MOTION, image_motion, is_gap, motion_thumbnail

Progress = Callable[[int, int | None], None]
"""Called with the number of frames that were read, and of all where that is known."""


def prepare_stream(
    stream: FrameStream, output: Path, options: PrepareOptions, progress: Progress = lambda done, total: None
) -> PrepareSummary:
    """Write the frames of one recording below `output`; go on where an earlier run was stopped.

    The files do not depend on whether, or how often, it was stopped.

    Raises:
        DataError: the output holds other frames, or cannot be written.
    """
    claim_output(output, options)
    folder = _sequence_folder(output, stream.name)
    header = Header(
        stream.source,
        options.width,
        options.height,
        f".{options.format}",
        keep_still=options.keep_still,
        max_gap=options.max_gap,
    )
    with IndexWriter(folder, header) as log:
        if not log.index.is_complete:
            _Writer(folder, options, log).run(stream, progress)
    index = read_index(log.path)
    if index is None:
        raise DataError(f"{log.path} has vanished while it was written")
    progress(index.positions, index.positions)
    return index.summary()


class _Writer:
    def __init__(self, folder: Path, options: PrepareOptions, log: IndexWriter) -> None:
        self._folder, self._options, self._log = folder, options, log
        self._previous: KeptFrame | None = log.index.kept[-1] if log.index.kept else None
        self._previous_thumbnail: NDArray[np.uint8] | None = None

    def run(self, stream: FrameStream, progress: Progress) -> None:
        """Read on from the last frame that was kept: what comes after is compared with it."""
        first = self._previous.position if self._previous is not None else 0
        for position, frame in enumerate(stream.frames(first), start=first):
            if self._previous is not None and position == self._previous.position and isinstance(frame, RawFrame):
                self._previous_thumbnail = motion_thumbnail(frame.rgb)
            elif position >= self._log.index.positions:
                self._read(position, frame)
            progress(position + 1, stream.expected_frames)
        self._log.end()

    def _read(self, position: int, frame: RawFrame | UnreadableFrame) -> None:
        if isinstance(frame, UnreadableFrame):
            self._log.unreadable(position, f"{frame.name}: {frame.reason}")
            return
        thumbnail = motion_thumbnail(frame.rgb)
        if self._is_still(frame.stamp_ns, thumbnail):
            self._log.still(position)
            return
        self._previous = self._write(position, frame)
        self._previous_thumbnail = thumbnail
        self._log.kept(self._previous)

    def _is_still(self, stamp_ns: int, thumbnail: NDArray[np.uint8]) -> bool:
        if self._options.keep_still or self._previous is None or self._previous_thumbnail is None:
            return False
        if stamp_ns <= self._previous.stamp_ns:
            return False  # it does not come after that frame
        return image_motion(self._previous_thumbnail, thumbnail) < STILL_MOTION

    def _write(self, position: int, frame: RawFrame) -> KeptFrame:
        previous, size = self._previous, (self._options.width, self._options.height)
        splits = previous is not None and is_gap(previous.stamp_ns, frame.stamp_ns, self._options.max_gap)
        index, part = (0, 0) if previous is None else (previous.index + 1, previous.part + splits)
        camera = _camera_of(frame)
        lens = camera if camera is not None and camera.is_distorted else None
        rgb = rectified(frame.rgb, lens) if lens is not None and self._options.rectify else frame.rgb
        write_atomically(
            image_file(self._folder, index, f".{self._options.format}"), self._encoded(resized(rgb, *size))
        )
        if frame.stereo is not None:
            partner = resized(frame.stereo.rgb, *size)
            write_atomically(stereo_file(self._folder, index, f".{self._options.format}"), self._encoded(partner))
        if frame.depth is not None:
            depth = resized_depth(frame.depth, *size, lens if self._options.rectify else None)
            write_atomically(depth_file(self._folder, index), encoded_depth(depth))
        return KeptFrame(
            position=position,
            index=index,
            part=part,
            stamp_ns=int(frame.stamp_ns),
            name=frame.name,
            K=None if camera is None else undistorted(camera).normalized(),
            distortion=None if lens is None or self._options.rectify else (lens.distortion_model, *lens.distortion),
            T_world_camera=None if frame.pose is None else tuple(map(float, frame.pose[:3].ravel())),
            speed=None if frame.speed is None else float(frame.speed),
            T_stereo_camera=None if frame.stereo is None else tuple(map(float, frame.stereo.T_other_this[:3].ravel())),
            depth=frame.depth is not None,
            is_target=frame.is_target,
        )

    def _encoded(self, rgb: NDArray[np.uint8]) -> bytes:
        return encoded_image(rgb, self._options)


def _camera_of(frame: RawFrame) -> PinholeCamera | None:
    """The camera at the image's own size: a calibration may be for another one."""
    height, width = frame.rgb.shape[:2]
    return None if frame.camera is None else frame.camera.resized(width, height)


def _sequence_folder(output: Path, name: str) -> Path:
    folder = output / name
    if not folder.resolve().is_relative_to(output.resolve()) or folder.resolve() == output.resolve():
        raise DataError(f"a sequence cannot be called {name!r}: expected the name of a folder below the output")
    return folder
