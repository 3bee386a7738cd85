"""The replayer as its own process, heard over real DDS."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_node import bag_messages
from depth_node.bags import BagWriter, open_bag
from depth_node.camera import PinholeCamera
from depth_node.errors import BagError, DepthNodeError

rclpy = pytest.importorskip("rclpy")

PERIOD_NS = 100_000_000
START_NS = 1_500_000_000_123_456_789


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames at 10 Hz with camera_info, odometry, and a depth image that nobody asks for."""
    path = tmp_path_factory.mktemp("bag") / "drive.mcap"
    camera = PinholeCamera(8, 6, 5.0, 5.0, 3.5, 2.5)
    with BagWriter(path) as bag:
        for number in range(10):
            stamp = START_NS + number * PERIOD_NS
            bag.write("/camera_info", stamp, bag_messages.camera_info(stamp, "camera", camera))
            pixels = np.full((6, 8, 3), number, np.uint8)
            bag.write("/image", stamp, bag_messages.image(stamp, "camera", pixels, "rgb8"))
            odometry = bag_messages.odometry(stamp, "map", "base_link", np.eye(4), [1, 0, 0], [0, 0, 0])
            bag.write("/odometry", stamp, odometry)
    return path


class Listener:
    """Subscribes topics and keeps what arrives, with its time of arrival."""

    def __init__(self, topics: dict[str, Any], qos: Any) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.received: dict[str, list[tuple[float, Any]]] = {topic: [] for topic in topics}
        for topic, message_type in topics.items():
            self.node.create_subscription(
                message_type, topic, lambda m, t=topic: self.received[t].append((time.monotonic(), m)), qos
            )

    def spin_while(self, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)
        for _ in range(20):
            self.executor.spin_once(timeout_sec=0.01)

    def close(self) -> None:
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def listen(private_ros_domain: dict[str, str]) -> Iterator[Any]:
    listeners = []

    def create(topics: dict[str, Any], qos: Any = 50) -> Listener:
        listeners.append(Listener(topics, qos))
        return listeners[-1]

    yield create
    for listener in listeners:
        listener.close()


def start_replay(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "depth_node", "replay", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def nanoseconds(message: Any) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def test_plays_everything_once_with_stamps_at_the_rate(listen: Any, drive: Path) -> None:
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import CameraInfo, Image

    listener = listen({"/image": Image, "/camera_info": CameraInfo, "/odometry": Odometry})
    process = start_replay(str(drive), "--rate", "2", "--wait-for-subscribers")
    listener.spin_while(process)
    assert process.returncode == 0
    expected = [START_NS + number * PERIOD_NS for number in range(10)]
    for topic, received in listener.received.items():
        assert [nanoseconds(message) for _, message in received] == expected, topic
    images = listener.received["/image"]
    assert [message.data[0] for _, message in images] == list(range(10))
    assert 0.4 < images[-1][0] - images[0][0] < 0.9  # nine periods: 0.45 s at double speed, 0.9 s at the bag's own


def test_best_effort_subscriber_topics_and_remapping(listen: Any, drive: Path) -> None:
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image

    listener = listen({"/front/image_raw": Image, "/camera_info": CameraInfo}, qos_profile_sensor_data)
    arguments = ["--topic", "/image", "--wait-for-subscribers", "--ros-args", "-r", "/image:=/front/image_raw"]
    process = start_replay(str(drive), *arguments)
    listener.spin_while(process)
    assert len(listener.received["/front/image_raw"]) >= 9
    assert listener.received["/camera_info"] == []


def test_loop_repeats_the_stamps_clock_follows_and_interrupt_ends(listen: Any, drive: Path) -> None:
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import Image

    listener = listen({"/image": Image, "/clock": Clock})
    process = start_replay(str(drive), "--rate", "5", "--loop", "--clock", "--wait-for-subscribers")
    deadline = time.monotonic() + 20
    while len(listener.received["/image"]) < 25 and time.monotonic() < deadline:
        listener.executor.spin_once(timeout_sec=0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert b"Traceback" not in output
    stamps = [nanoseconds(message) for _, message in listener.received["/image"]]
    assert stamps[:20] == [START_NS + (number % 10) * PERIOD_NS for number in range(20)]
    clock = [message.clock.sec * 1_000_000_000 + message.clock.nanosec for _, message in listener.received["/clock"]]
    assert len(clock) >= 10  # one before each image, less what a busy machine makes a listener miss
    assert sorted(set(clock)) != clock  # it went back with the loop
    assert min(clock) >= START_NS
    assert max(clock) <= START_NS + 9 * PERIOD_NS


def test_latecomer_gets_the_static_transforms(listen: Any) -> None:
    from std_msgs.msg import String

    from depth_node.tools.replay import qos_profile

    talker = listen({})
    publisher = talker.node.create_publisher(String, "/tf_static", qos_profile("tf2_msgs/msg/TFMessage", "/tf_static"))
    publisher.publish(String(data="base_link to camera"))
    latecomer = listen({"/tf_static": String}, qos_profile("tf2_msgs/msg/TFMessage", "/tf_static"))
    deadline = time.monotonic() + 10
    while not latecomer.received["/tf_static"] and time.monotonic() < deadline:
        latecomer.executor.spin_once(timeout_sec=0.05)
    assert [message.data for _, message in latecomer.received["/tf_static"]] == ["base_link to camera"]


def test_nobody_listening_and_wrong_topics_are_told(private_ros_domain: dict[str, str], drive: Path) -> None:
    from depth_node.tools import replay

    with pytest.raises(DepthNodeError, match=r"nobody subscribed to /image within 0\.2 s"):
        replay.main([str(drive), "--wait-for-subscribers", "0.2"])
    with pytest.raises(BagError, match="no topic /front; its image topics: /image"):
        replay.main([str(drive), "--topic", "/front"])


def test_messages_that_cannot_be_published_here_are_left_out(
    listen: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from depth_node.tools.replay import create_publishers

    path = tmp_path / "drive.mcap"
    with BagWriter(path) as bag:
        bag.write("/tf", START_NS, bag_messages.transforms(START_NS, {("map", "base_link"): np.eye(4)}))
        odometry = bag_messages.odometry(START_NS, "map", "base_link", np.eye(4), [1, 0, 0], [0, 0, 0])
        bag.write("/odometry", START_NS, odometry)
    has_tf2 = _is_installed("tf2_msgs")
    with open_bag(path) as bag:
        publishers = create_publishers(listen({}).node, bag, None)
        assert set(publishers) == ({"/tf", "/odometry"} if has_tf2 else {"/odometry"})
        if not has_tf2:
            assert "/tf is left out: tf2_msgs is not installed" in caplog.text
            with pytest.raises(DepthNodeError, match="tf2_msgs is not installed"):
                create_publishers(listen({}).node, bag, ["/tf"])


@pytest.mark.parametrize("rate", ["0", "-1", "inf", "nan", "fast"])
def test_rate_has_to_be_positive(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    from depth_node.tools.replay import parse_arguments

    with pytest.raises(SystemExit):
        parse_arguments(["drive.mcap", "--rate", rate])
    assert "--rate" in capsys.readouterr().err


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
