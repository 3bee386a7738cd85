"""Which topics the node listens to, as image_transport and image_proc name them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image

from depth_node.frames import stamp_ns
from depth_node.inputs import image_topic, is_rectified_topic
from depth_node.services import snapshot_directory


@pytest.mark.parametrize(
    ("resolved", "transport", "topic"),
    [
        ("/camera/image_raw", "raw", "/camera/image_raw"),
        ("/camera/image_raw", "compressed", "/camera/image_raw/compressed"),
        ("/camera/image_raw/compressed", "compressed", "/camera/image_raw/compressed"),
        ("/camera/compressed", "raw", "/camera/compressed"),
    ],
)
def test_image_topic(resolved: str, transport: str, topic: str) -> None:
    assert image_topic(resolved, transport) == topic


@pytest.mark.parametrize(
    ("topic", "is_rectified"),
    [
        ("/camera/image_rect", True),
        ("/camera/image_rect_color/compressed", True),
        ("/camera/image_raw", False),
        ("/image_rect/camera/image", False),
    ],
)
def test_rectified_by_name(topic: str, is_rectified: bool) -> None:
    assert is_rectified_topic(topic) == is_rectified


def test_stamps_before_1970_are_numbers_as_well() -> None:
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = -2, 500_000_000
    assert stamp_ns(message) == -1_500_000_000


def test_snapshots_go_to_the_ros_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ROS_HOME", raising=False)
    assert snapshot_directory("") == tmp_path / ".ros" / "depth_node" / "snapshots"
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "ros"))
    assert snapshot_directory("") == tmp_path / "ros" / "depth_node" / "snapshots"
    assert snapshot_directory("~/drive") == tmp_path / "drive"
