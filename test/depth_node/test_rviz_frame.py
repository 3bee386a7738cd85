"""The transform that RViz needs: what is published when, by the tool as its own process."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")

import rclpy

from depth_node.tools import run, rviz_frame
from depth_node.tools.rviz_frame import FrameTree

needs_tf2_msgs = pytest.mark.skipif(
    importlib.util.find_spec("tf2_msgs") is None, reason="needs tf2_msgs of a ROS machine; it is not on PyPI"
)
WAIT_S = 0.5  # --wait of the processes here


def rotation_matrix(q: Any) -> np.ndarray[Any, Any]:
    """3x3 matrix of a unit quaternion, from v -> v + 2 q x (q x v + w v) (Rodrigues)."""
    v = np.array([q.x, q.y, q.z])
    cross = np.array([[0, -q.z, q.y], [q.z, 0, -q.x], [-q.y, q.x, 0]])
    return np.asarray((q.w**2 - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * q.w * cross)


def test_optical_axes_lie_as_rep_103_says() -> None:
    body_from_optical = rotation_matrix(rviz_frame.BODY_TO_OPTICAL)
    forward, left, up = np.eye(3)
    np.testing.assert_array_equal(body_from_optical @ [0, 0, 1], forward)
    np.testing.assert_array_equal(body_from_optical @ [1, 0, 0], -left)
    np.testing.assert_array_equal(body_from_optical @ [0, 1, 0], -up)
    np.testing.assert_array_equal(rotation_matrix(rviz_frame.OPTICAL_TO_BODY), body_from_optical.T)


def test_frames_of_one_tree_are_connected() -> None:
    tree = FrameTree()
    for parent, child in (("base_link", "camera"), ("odom", "base_link"), ("earth", "map")):
        tree.add(parent, child)
    assert tree.root("camera") == "odom"
    assert tree.connects("camera", "odom")
    assert not tree.connects("camera", "map")
    assert "odom" in tree
    assert "lidar" not in tree
    assert not tree.connects("lidar", "camera")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_a_root_is_found_whatever_is_published(edges: list[tuple[int, int]]) -> None:
    tree = FrameTree()
    for parent, child in edges:
        tree.add(str(parent), str(child))
    parents = {child: parent for parent, child in edges}
    for frame in range(6):
        ancestors = [frame]
        while ancestors[-1] in parents and parents[ancestors[-1]] not in ancestors:
            ancestors.append(parents[ancestors[-1]])
        is_loop = ancestors[-1] in parents
        assert int(tree.root(str(frame))) in (ancestors if is_loop else ancestors[-1:])


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is not None, reason="tf2_msgs is installed")
@pytest.mark.usefixtures("private_ros_domain")
def test_without_tf2_msgs_it_says_where_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert run("rviz_frame", []) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "rviz_frame: tf2_msgs is not installed" in capsys.readouterr().err


class Robot:
    """Publishes a camera_info and transforms, and keeps the static transforms of others."""

    def __init__(self, namespace: str) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import CameraInfo
        from tf2_msgs.msg import TFMessage

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("robot", namespace=namespace, context=self._context)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._infos = self.node.create_publisher(CameraInfo, "depth/camera_info", 5)
        self._tf = {name: self.node.create_publisher(TFMessage, name, latched) for name in ("/tf", "/tf_static")}
        self.transforms: list[Any] = []
        self.node.create_subscription(TFMessage, "/tf_static", lambda m: self.transforms.extend(m.transforms), latched)

    def close(self) -> None:
        self.node.destroy_node()
        self._context.shutdown()

    def show_depth(self, frame_id: str) -> None:
        from sensor_msgs.msg import CameraInfo

        message = CameraInfo()
        message.header.frame_id = frame_id
        self._infos.publish(message)

    def publish_transform(self, topic: str, parent: str, child: str) -> None:
        from geometry_msgs.msg import TransformStamped
        from tf2_msgs.msg import TFMessage

        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = parent
        self._tf[topic].publish(TFMessage(transforms=[transform]))

    def wait(self, condition: Callable[[], Any], each_turn: Callable[[], None] = lambda: None) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            each_turn()
            self._executor.spin_once(0.1)

    def edges(self) -> list[tuple[str, str]]:
        return [(transform.header.frame_id, transform.child_frame_id) for transform in self.transforms]


@contextmanager
def rviz_frame_process(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "depth_node", "rviz_frame", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        print(log.read_text())


@pytest.fixture
def robot(private_ros_domain: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Robot]:
    robot = Robot(f"/{request.node.name.partition('[')[0]}")
    yield robot
    robot.close()


def namespace_arguments(robot: Robot) -> list[str]:
    return ["--ros-args", "-r", f"__ns:={robot.node.get_namespace()}"]


@needs_tf2_msgs
def test_a_view_frame_hangs_below_the_camera(robot: Robot, tmp_path: Path) -> None:
    log = tmp_path / "log"
    robot.publish_transform("/tf_static", "base_link", "camera")
    with rviz_frame_process(log, "--view-frame", "view", *namespace_arguments(robot)) as process:
        robot.wait(lambda: ("camera", "view") in robot.edges(), lambda: robot.show_depth("/camera"))
        rotation = robot.transforms[-1].transform.rotation
        np.testing.assert_array_equal(rotation_matrix(rotation) @ [1, 0, 0], [0, 0, 1])  # its x looks along optical z
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert "publishing 'camera' -> 'view' for RViz" in log.read_text()


@needs_tf2_msgs
@pytest.mark.parametrize("topic", ["/tf", "/tf_static"])
def test_where_tf_connects_the_camera_nothing_is_published(robot: Robot, tmp_path: Path, topic: str) -> None:
    log = tmp_path / "log"
    arguments = ["--fixed-frame", "/map", "--wait", "20", *namespace_arguments(robot)]

    def go_on() -> None:
        robot.show_depth("camera")
        robot.publish_transform(topic, "base_link", "camera")
        robot.publish_transform("/tf", "map", "base_link")

    with rviz_frame_process(log, *arguments) as process:
        robot.wait(lambda: process.poll() is not None, go_on)
        assert process.returncode == 0
    assert "nothing to publish" in log.read_text()
    assert set(robot.edges()) <= {("base_link", "camera")}


@needs_tf2_msgs
def test_where_tf_does_not_know_the_camera_it_gets_a_transform(robot: Robot, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["--fixed-frame", "world", "--wait", str(WAIT_S), *namespace_arguments(robot)]
    with rviz_frame_process(log, *arguments) as process:
        robot.wait(lambda: ("world", "unknown_camera") in robot.edges(), lambda: robot.show_depth("unknown_camera"))
        rotation = robot.transforms[-1].transform.rotation
        np.testing.assert_array_equal(rotation_matrix(rotation) @ [0, 0, 1], [1, 0, 0])  # optical z looks along x
        robot.publish_transform("/tf", "mast", "unknown_camera")
        robot.wait(lambda: "has two parents now" in log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert f"within {WAIT_S:g} s: publishing 'world' -> 'unknown_camera'" in log.read_text()


@needs_tf2_msgs
def test_a_camera_in_another_tree_gets_no_second_parent(robot: Robot, tmp_path: Path) -> None:
    log = tmp_path / "log"
    robot.publish_transform("/tf_static", "chassis", "front_camera")
    arguments = ["--fixed-frame", "world", "--wait", str(WAIT_S), *namespace_arguments(robot)]
    with rviz_frame_process(log, *arguments) as process:
        robot.wait(lambda: process.poll() is not None, lambda: robot.show_depth("front_camera"))
        assert process.returncode == 0
    assert "start with fixed_frame:=chassis" in log.read_text()
    assert not any(parent == "world" for parent, _ in robot.edges())


@needs_tf2_msgs
def test_images_without_frame_id_are_an_error(robot: Robot, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with rviz_frame_process(log, *namespace_arguments(robot)) as process:
        robot.wait(lambda: process.poll() is not None, lambda: robot.show_depth(""))
        assert process.returncode == 2
    assert "have no frame_id" in log.read_text()
