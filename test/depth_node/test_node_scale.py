"""Metric scale on a real node, over real DDS: a wall that the camera passes, and what its wheels say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image

from node_harness import FIRST_STAMP_S, FRAME_ID, Client, depth_of

pytestmark = pytest.mark.usefixtures("private_ros_domain")

WIDTH, HEIGHT = 160, 96
FOCAL = 0.58 * WIDTH  # pixels, the model's prior
DEPTH = 5.0  # in the model's unit: disparity 0.2, whatever the image shows
SHIFT = 4  # pixels between two images, so the camera goes SHIFT DEPTH / FOCAL units to the right
PERIOD_S = 0.2
SPEED = 2.0  # m/s
FACTOR = SPEED * PERIOD_S / (SHIFT * DEPTH / FOCAL)
SCALE = "scale"
QUIET = {"intrinsics.source": "prior", "intrinsics.rate": 0.0}  # nothing is learned but the scale


@pytest.fixture(scope="module")
def wall_model(make_tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees a wall and knows no metres."""
    path = tmp_path_factory.mktemp("models") / "wall.onnx"
    return Path(make_tiny_model(path, width=WIDTH, height=HEIGHT, at_black=0.2, at_white=0.2, metric=False).path)


class Drive:
    """Images of a wall that passes by, and odometry at 50 Hz."""

    def __init__(self, client: Client, message_type: type = Odometry, topic: str = "odom") -> None:
        noise = np.random.default_rng(0).integers(0, 256, (12, 400, 3), np.uint8)
        self._texture = cv2.resize(noise, (12_000, HEIGHT), interpolation=cv2.INTER_CUBIC)
        self._client = client
        self._message_type = message_type
        self._odometry = client.publisher(topic, message_type)
        self._frame = 0
        self._metres = self._seconds = 0.0
        self._ticks = 0
        self.speed = SPEED

    def _header(self, seconds: float) -> Any:
        header = self._client.header()
        nanoseconds = round(seconds * 1e9)
        header.stamp.sec, header.stamp.nanosec = FIRST_STAMP_S + nanoseconds // 10**9, nanoseconds % 10**9
        header.frame_id = FRAME_ID
        return header

    def _send_odometry(self) -> None:
        message = self._message_type(header=self._header(self._ticks * 0.02))
        if self._message_type is Odometry:
            message.pose.pose.position.x = self._metres
            message.pose.pose.orientation.w = 1.0
        else:
            message.twist.linear.x = self.speed
        self._odometry.publish(message)
        self._ticks += 1
        self._metres += self.speed * 0.02

    def step(self) -> None:
        """One more image, and the odometry up to a little behind it."""
        seconds = self._frame * PERIOD_S
        while self._ticks * 0.02 <= seconds + 0.03:
            self._send_odometry()
        offset = round(self._metres / (SPEED * PERIOD_S) * SHIFT)
        pixels = np.ascontiguousarray(self._texture[:, offset : offset + WIDTH])
        message = Image(header=self._header(seconds), height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        message.data.frombytes(pixels.tobytes())
        self._client.send(message)
        self._client.spin(0.03)
        self._frame += 1

    def until(self, condition: Callable[[], Any]) -> None:
        def check() -> Any:
            self.step()
            return condition()

        self._client.wait(check, seconds=60)


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def newest(client: Client) -> DiagnosticStatus:
    (status,) = client.received[SCALE][-1].status
    return status


def test_up_to_scale_until_the_wheels_have_said_enough(start: Callable[..., Any], wall_model: Path) -> None:
    """Then metres, also while standing still; and once more in velocities."""
    with start(model=wall_model, **{**QUIET, "scale.mode": "odometry"}) as (process, client):
        client.wait_until_active()
        client.subscribe(SCALE, message_type=DiagnosticArray)
        drive = Drive(client)
        drive.until(lambda: client.received[SCALE])
        first = client.received[SCALE][0]
        assert first.header.frame_id == FRAME_ID
        assert first.header.stamp.sec >= FIRST_STAMP_S
        assert first.status[0].level == DiagnosticStatus.WARN
        assert first.status[0].message.startswith("up to scale: ")
        assert values(first.status[0])["factor"] == "1"
        assert values(first.status[0])["relative_sigma"] == "nan"

        drive.until(lambda: newest(client).level == DiagnosticStatus.OK)
        client.subscribe("depth/image")
        drive.until(lambda: client.received["depth/image"])
        known = values(newest(client))
        assert known["source"] == "odometry"
        assert float(known["factor"]) == pytest.approx(FACTOR, rel=0.03)
        assert 0.05 < float(known["relative_sigma"]) < 0.15
        np.testing.assert_allclose(depth_of(client.received["depth/image"][-1]), FACTOR * DEPTH, rtol=0.03)
        assert process.log.count("depth is up to scale") == 1
        assert process.log.count("metric scale from odometry") == 1
        reported = client.diagnostic_values()
        assert (reported["scale_source"], reported["scale_relative_sigma"]) == ("odometry", known["relative_sigma"])
        assert "pairs of images" in reported["scale_reason"]

        wheels = client.publisher("odom", Odometry)
        client.wait(wheels.get_subscription_count)
        lost = Odometry(pose=PoseWithCovariance(pose=Pose(position=Point(x=float("nan")))))

        def is_left_out() -> bool:
            # With every image: the node may not know yet of a publisher that knows the node.
            wheels.publish(lost)
            return "odometry with a pose of (nan, 0, 0, 1, 0, 0, 0) is left out" in process.log

        drive.until(is_left_out)
        drive.speed = 0.0
        drive.until(lambda: values(newest(client))["reason"].endswith("standing still"))
        assert float(values(newest(client))["factor"]) == pytest.approx(FACTOR, rel=0.03)
        stopped = re.compile(r"no odometry on \S+/odom for [3-9] s")
        client.wait(lambda: stopped.search(client.diagnostics[-1].message))
        assert client.diagnostics[-1].level == DiagnosticStatus.WARN


def test_what_is_wrong_with_the_topic(start: Callable[..., Any], wall_model: Path) -> None:
    with start(model=wall_model, **{**QUIET, "scale.mode": "odometry"}) as (_, client):
        client.wait_until_active()
        client.wait(lambda: client.diagnostics and "nobody publishes /node" in client.diagnostics[-1].message)
        Drive(client, TwistStamped)
        found = "is of type geometry_msgs/msg/TwistStamped, not nav_msgs/msg/Odometry: set scale.odometry_type"
        client.wait(lambda: found in client.diagnostics[-1].message)
        assert not client.set_parameter("scale.odometry_type", "geometry_msgs/TwistStamped").successful


def test_auto_changes_over_to_odometry_and_back_to_nothing(start: Callable[..., Any], wall_model: Path) -> None:
    """Wheel speed, on a topic of another name."""
    options = {**QUIET, "scale.mode": "auto", "scale.odometry_type": "geometry_msgs/TwistStamped"}
    with start("-r", "odom:=wheels", model=wall_model, **options) as (process, client):
        client.wait_until_active()
        client.subscribe(SCALE, message_type=DiagnosticArray)
        drive = Drive(client, TwistStamped, "wheels")
        drive.until(lambda: client.received[SCALE])
        assert "the model knows no scale" in values(client.received[SCALE][0].status[0])["reason"]
        drive.until(lambda: values(newest(client))["source"] == "odometry")
        assert float(values(newest(client))["factor"]) == pytest.approx(FACTOR, rel=0.03)
        assert client.set_parameter("scale.mode", "model").successful
        drive.until(lambda: values(newest(client))["source"] == "unknown")
        client.wait(lambda: client.node.count_subscribers(client.resolved("wheels")) == 0)
        assert client.set_parameter("scale.mode", "auto").successful
        client.wait(lambda: client.node.count_subscribers(client.resolved("wheels")) == 1)
        drive.until(lambda: values(newest(client))["source"] == "odometry")
        assert process.log.count("metric scale from odometry") == 1
