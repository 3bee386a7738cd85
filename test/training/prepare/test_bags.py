"""Bags of every kind give the same frames, with the drive's own geometry as the truth."""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin

import bag_drive
from bag_drive import CAMERA, FRAMES, IMAGE, INFO, ODOMETRY, SCAN, stamp
from depth_node import bag_messages
from depth_node.camera import PinholeCamera
from depth_node.errors import BagError
from training.data.kitti_bag import kitti_to_bag
from training.data.kitti_raw import read_kitti_raw
from training.prepare.bags import BagOptions, BagStream, bag_streams
from training.prepare.frames import RawFrame, UnreadableFrame


def only_stream(source: Path, **options: Any) -> BagStream:
    (stream,) = bag_streams(source, BagOptions(**options))
    return stream


def read(source: Path, **options: Any) -> list[RawFrame]:
    frames = list(only_stream(source, **options).frames(0))
    assert all(isinstance(frame, RawFrame) for frame in frames)
    return frames  # type: ignore[return-value]


def split(folder: Path, storage: StoragePlugin, metadata: bool) -> Path:
    """Two files that follow one another, in one folder."""
    entries = bag_drive.messages()
    half = len(entries) // 2
    suffix = {StoragePlugin.MCAP: "mcap", StoragePlugin.SQLITE3: "db3"}[storage]
    folder.mkdir()
    for number, part in enumerate((entries[:half], entries[half:])):
        written = bag_drive.write_ros2(folder.parent / f"part{number}", part, storage)
        shutil.move(written / f"part{number}.{suffix}", folder / f"drive_{number}.{suffix}")
    if metadata:
        whole = bag_drive.write_ros2(folder.parent / "whole", entries, storage)
        text = (whole / "metadata.yaml").read_text()
        text = text.replace(f"- whole.{suffix}", f"- drive_0.{suffix}\n  - drive_1.{suffix}")
        assert f"- drive_1.{suffix}" in text
        (folder / "metadata.yaml").write_text(text)
    return folder


MCAP, DB3 = StoragePlugin.MCAP, StoragePlugin.SQLITE3
KINDS: dict[str, Callable[[Path], Path]] = {
    "mcap folder": lambda path: bag_drive.write_ros2(path / "drive", bag_drive.messages()),
    "mcap file": lambda path: bag_drive.write_ros2(path / "drive", bag_drive.messages()) / "drive.mcap",
    "db3 file": lambda path: bag_drive.write_ros2(path / "drive", bag_drive.messages(), DB3) / "drive.db3",
    "split mcap": lambda path: split(path / "drive", MCAP, metadata=True),
    "split db3 without metadata": lambda path: split(path / "drive", DB3, metadata=False),
    "mcap, zstd chunks": lambda path: bag_drive.write_ros2(
        path / "drive", bag_drive.messages(), MCAP, CompressionMode.STORAGE
    ),
    "mcap, zstd file": lambda path: bag_drive.write_ros2(
        path / "drive", bag_drive.messages(), MCAP, CompressionMode.FILE
    ),
    "db3, zstd file": lambda path: bag_drive.write_ros2(
        path / "drive", bag_drive.messages(), DB3, CompressionMode.FILE
    ),
    "db3, zstd messages": lambda path: bag_drive.write_ros2(
        path / "drive", bag_drive.messages(), DB3, CompressionMode.MESSAGE
    ),
    "ROS 1": lambda path: bag_drive.write_ros1(path / "drive.bag", bag_drive.messages()),
    "ROS 1, bz2": lambda path: bag_drive.write_ros1(path / "drive.bag", bag_drive.messages(), "bz2"),
    "compressed images": lambda path: bag_drive.write_ros2(path / "drive", bag_drive.messages(compressed=True)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_bag_gives_the_drive(tmp_path: Path, kind: str) -> None:
    stream = only_stream(KINDS[kind](tmp_path))
    assert stream.name == "drive"
    assert stream.expected_frames == FRAMES
    frames = list(stream.frames(0))
    assert len(frames) == FRAMES
    for number, frame in enumerate(frames):
        assert isinstance(frame, RawFrame)
        assert frame.stamp_ns == stamp(number)
        np.testing.assert_array_equal(frame.rgb, bag_drive.pixels(number))
        assert frame.camera is not None
        np.testing.assert_allclose(frame.camera.matrix(), CAMERA.matrix(), atol=1e-12)
        assert frame.depth is not None
        rows, columns = np.nonzero(frame.depth)
        seen = {(int(r), int(c)): float(frame.depth[r, c]) for r, c in zip(rows, columns, strict=True)}
        assert seen == pytest.approx(bag_drive.PIXELS, rel=1e-6)


def test_speed_and_pose_between_odometry_messages(tmp_path: Path) -> None:
    frames = read(bag_drive.write_ros2(tmp_path / "drive", bag_drive.messages()))
    for number, frame in enumerate(frames[:-1]):
        # Odometry lies half a period before each frame: the mean of the two around it.
        expected = (np.hypot(3 + number, 4) + np.hypot(4 + number, 4)) / 2
        assert frame.speed == pytest.approx(expected, rel=1e-9)
        assert frame.pose is not None
        np.testing.assert_allclose(frame.pose[:3, 3], [2 * number * 0.1 + 0.5, 0, 0], atol=1e-9)
        np.testing.assert_allclose(frame.pose[:3, 2], [1, 0, 0], atol=1e-12)  # it looks ahead
    assert frames[-1].speed is None  # the last message came before it
    assert frames[-1].pose is None


@pytest.mark.parametrize("stamped", [True, False])
def test_twist_is_used_where_it_is_named(tmp_path: Path, stamped: bool) -> None:
    entries = [entry for entry in bag_drive.messages() if entry[0] != ODOMETRY]
    entries += [("/twist", stamp(n), bag_drive.twist(stamp(n), 1.5 + n, stamped)) for n in range(FRAMES)]
    path = bag_drive.write_ros2(tmp_path / "drive", sorted(entries, key=lambda entry: entry[1]))
    assert [frame.speed for frame in read(path)] == [None] * FRAMES
    assert [frame.speed for frame in read(path, motion="/twist")] == pytest.approx([1.5 + n for n in range(FRAMES)])


def test_no_speed_in_a_hole_of_the_odometry(tmp_path: Path) -> None:
    entries = [e for e in bag_drive.messages() if e[0] != ODOMETRY or not stamp(2) < e[1] < stamp(8)]
    frames = read(bag_drive.write_ros2(tmp_path / "drive", entries))
    assert [frame.speed is None for frame in frames] == [False] * 2 + [True] * 7 + [False] * 2 + [True]


def test_reading_on_gives_the_same_frames(tmp_path: Path) -> None:
    stream = only_stream(bag_drive.write_ros2(tmp_path / "drive", bag_drive.messages()))
    whole = list(stream.frames(0))
    rest = list(pickle.loads(pickle.dumps(stream)).frames(7))  # noqa: S301  (as it is sent to another process)
    assert len(rest) == FRAMES - 7
    for first, second in zip(whole[7:], rest, strict=True):
        assert isinstance(first, RawFrame)
        assert isinstance(second, RawFrame)
        assert (first.stamp_ns, first.speed, first.camera) == (second.stamp_ns, second.speed, second.camera)
        np.testing.assert_array_equal(first.rgb, second.rgb)
        np.testing.assert_array_equal(first.depth, second.depth)


def test_image_topics_are_listed_where_one_is_to_be_chosen(tmp_path: Path) -> None:
    entries = bag_drive.messages()
    entries += [
        ("/other/image", stamp(n), bag_messages.image(stamp(n), "o", np.zeros((4, 4), np.uint8), "mono8"))
        for n in range(3)
    ]
    path = bag_drive.write_ros2(tmp_path / "drive", sorted(entries, key=lambda entry: entry[1]))
    with pytest.raises(BagError, match="2 image topics; name one") as error:
        list(only_stream(path).frames(0))
    for line in (f"{IMAGE}  sensor_msgs/msg/Image  {FRAMES}", "/other/image  sensor_msgs/msg/Image  3"):
        assert line in str(error.value)
    with pytest.raises(BagError, match=r"no image topic /front[\s\S]*/other/image"):
        list(only_stream(path, image="/front").frames(0))
    assert [frame.rgb.shape for frame in read(path, image="/other/image")] == [(4, 4, 3)] * 3


def test_bag_without_images(tmp_path: Path) -> None:
    entries = [entry for entry in bag_drive.messages() if entry[0] == ODOMETRY]
    with pytest.raises(BagError, match=r"has 0 image topics.*none"):
        list(only_stream(bag_drive.write_ros2(tmp_path / "drive", entries)).frames(0))


def test_unknown_intrinsics_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = bag_drive.write_ros2(tmp_path / "drive", bag_drive.messages(only_images=True))
    frames = read(path)
    assert [(frame.camera, frame.depth, frame.pose, frame.speed) for frame in frames] == [(None,) * 4] * FRAMES
    assert "no /camera/camera_info, so intrinsics are unknown" in caplog.text


def test_camera_info_of_no_calibration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = bag_drive.messages()
    for topic, _, message in entries:
        if topic == INFO:
            message.k[:] = 0
            message.p[:] = 0
    frames = read(bag_drive.write_ros2(tmp_path / "drive", entries))
    assert all(frame.camera is None and frame.depth is None for frame in frames)
    assert caplog.text.count("intrinsics are unknown: camera with fx = 0") == 1


def test_distorted_camera_is_told_and_depth_has_its_distortion(tmp_path: Path) -> None:
    lens = PinholeCamera(96, 64, 80.0, 90.0, 47.25, 30.25, "plumb_bob", (0.4, 0.0, 0.0, 0.0, 0.0))
    frame = read(bag_drive.write_ros2(tmp_path / "drive", bag_drive.messages(camera=lens)))[0]
    assert frame.camera == lens
    assert frame.depth is not None
    x, y = 1.5 / 8, 0.8 / 8  # radial distortion by hand
    scale = 1 + 0.4 * (x * x + y * y)
    pixel = round(30.25 + 90 * y * scale), round(47.25 + 80 * x * scale)
    assert pixel not in bag_drive.PIXELS
    assert frame.depth[pixel] == pytest.approx(8)
    assert np.count_nonzero(frame.depth) == 2


@pytest.mark.parametrize(("options", "reason"), [({"lidar": "none"}, None), ({"lidar_tolerance": 0.01}, None)])
def test_depth_can_be_left_out(tmp_path: Path, options: dict[str, Any], reason: None) -> None:
    frames = read(bag_drive.write_ros2(tmp_path / "drive", bag_drive.messages()), **options)
    assert [frame.depth for frame in frames] == [reason] * FRAMES


def test_scan_without_a_transform_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [entry for entry in bag_drive.messages() if entry[0] != "/tf_static"]
    frames = read(bag_drive.write_ros2(tmp_path / "drive", entries))
    assert all(frame.depth is None and frame.pose is None for frame in frames)
    assert caplog.text.count("tf does not join lidar and camera") == 1


def test_each_scan_belongs_to_its_nearest_image_alone(tmp_path: Path) -> None:
    scans = (SCAN, ODOMETRY)
    entries = [e for e in bag_drive.messages() if e[0] not in scans or (e[1] // 100_000_000) % 3 == 0]
    frames = read(bag_drive.write_ros2(tmp_path / "drive", entries), lidar_tolerance=0.5)
    with_depth = [number for number, frame in enumerate(frames) if frame.depth is not None]
    assert [b - a for a, b in pairwise(with_depth)] == [3] * (len(with_depth) - 1)
    assert len(with_depth) == FRAMES // 3


def test_a_damaged_image_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    entries = bag_drive.messages(compressed=True)
    images = [message for topic, _, message in entries if topic.endswith("compressed")]
    images[4].data = images[4].data[:40]
    frames = list(only_stream(bag_drive.write_ros2(tmp_path / "drive", entries)).frames(0))
    assert [number for number, frame in enumerate(frames) if isinstance(frame, UnreadableFrame)] == [4]
    assert str(stamp(4)) in frames[4].name
    assert "cut off" in frames[4].reason  # type: ignore[union-attr]


def test_recordings_below_a_folder(tmp_path: Path) -> None:
    entries = bag_drive.messages(2, only_images=True)
    week = tmp_path / "week"
    for day in ("monday", "tuesday"):
        (week / day).mkdir(parents=True)
        bag_drive.write_ros2(week / day / "drive", entries)
    for name in ("run_2024-05-01-10-00-00_0", "run_2024-05-01-10-10-00_1", "run_2024-05-02-09-00-00_0", "alone"):
        bag_drive.write_ros1(tmp_path / f"{name}.bag", entries)
        shutil.move(tmp_path / f"{name}.bag", week / f"{name}.bag")
    names = [(stream.name, len(stream.recording.parts)) for stream in bag_streams(week, BagOptions())]
    assert names == [
        ("alone", 1),
        ("monday/drive", 1),
        ("run_2024-05-01-10-00-00", 2),
        ("run_2024-05-02-09-00-00_0", 1),
        ("tuesday/drive", 1),
    ]
    assert bag_streams(tmp_path / "nothing", BagOptions()) == []


def test_kitti_drive_as_a_bag_gives_what_the_raw_folder_gives(
    shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    drive = "2011_09_26_drive_0001_sync"
    kitti_to_bag(shared_data / "kitti_raw" / "2011_09_26" / drive, tmp_path / "drive.mcap")
    records = read_kitti_raw(shared_data / "kitti_raw", [drive])
    frames = read(tmp_path / "drive.mcap")
    for frame, record in zip(frames, records, strict=True):
        assert frame.stamp_ns == record.stamp_ns
        assert frame.camera is not None
        np.testing.assert_allclose(frame.camera.normalized(), record.intrinsics, rtol=1e-12)
        assert (frame.depth is not None) == (record.depth is not None)
        if frame.depth is None or record.depth is None:
            continue
        depth = record.depth.read()
        # tf holds the rotation as a unit quaternion, the files as a matrix of seven digits: a point on the border of
        # two pixels may fall into the other.
        assert np.mean(np.abs(frame.depth - depth) > 1e-4) < 1e-5
    assert [frame.speed for frame in frames[1:5]] == pytest.approx([13.1] * 4, abs=0.2)
