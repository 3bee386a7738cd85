"""Video files, made here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.camera import PinholeCamera
from training.errors import DataError
from training.prepare.frames import RawFrame, UnreadableFrame
from training.prepare.video import VideoStream

COUNT, RATE = 20, 25.0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that get brighter, red more than blue."""
    path = tmp_path_factory.mktemp("video") / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (64, 48))
    for number in range(COUNT):
        writer.write(np.full((48, 64, 3), (2 * number, 0, 10 * number), np.uint8))
    writer.release()
    return path


def test_frames_in_order_with_their_times(video: Path) -> None:
    camera = PinholeCamera(128, 96, 100.0, 100.0, 63.0, 47.0)
    stream = VideoStream(video, camera)
    assert (stream.name, stream.expected_frames) == ("drive", COUNT)
    frames = [item for item in stream.frames(0) if isinstance(item, RawFrame)]
    assert len(frames) == COUNT
    for number, frame in enumerate(frames):
        assert np.abs(frame.rgb[24, 32].astype(int) - (10 * number, 0, 2 * number)).max() <= 6  # MJPG
        assert frame.camera == camera.resized(64, 48)
    steps = np.diff([frame.stamp_ns for frame in frames])
    assert np.abs(steps - 1e9 / RATE).max() < 2e6


def test_entering_in_the_middle_gives_the_same_frames(video: Path) -> None:
    whole, rest = list(VideoStream(video).frames(0)), list(VideoStream(video).frames(13))
    assert len(rest) == COUNT - 13
    for a, b in zip(whole[13:], rest, strict=True):
        assert isinstance(a, RawFrame)
        assert isinstance(b, RawFrame)
        assert a.stamp_ns == b.stamp_ns
        assert np.array_equal(a.rgb, b.rgb)


def test_video_that_is_cut_off_says_what_is_lost(video: Path, tmp_path: Path) -> None:
    content = video.read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(content[: len(content) * 7 // 10])
    items = list(VideoStream(path).frames(0))
    assert isinstance(items[-1], UnreadableFrame)
    assert "cut off or damaged" in items[-1].reason
    assert 2 < len(items) < COUNT


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"a\.mp4 cannot be opened as a video"):
        list(VideoStream(tmp_path / "a.mp4").frames(0))
