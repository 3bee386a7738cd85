"""Connect RViz's fixed frame with the camera's frame, where TF does not.

RViz shows a cloud only if TF connects the cloud's frame with the fixed frame. depth.launch.py starts this tool beside
RViz. It takes the camera's frame from the first depth/camera_info and publishes one static transform at most:

Without options, camera frame -> depth_view, a frame of RViz's own: at the camera, upright, x forward (REP 103). It is a
leaf of whatever tree there is or will be, so that it disturbs nobody.

With --fixed-frame, which names a frame of the robot, fixed frame -> camera frame, at the origin, looking along x: only
if TF does not know the camera's frame after --wait seconds.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from geometry_msgs.msg import Quaternion, TransformStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo

from depth_node.errors import DepthNodeError
from depth_node.transport import use_shipped_fastdds_profile

VIEW_FRAME = "depth_view"
DEFAULT_WAIT_S = 5.0
SPIN_S = 0.1

# Orientation of an optical frame (x right, y down, z forward) in a body frame (x forward, y left, z up), both REP 103.
BODY_TO_OPTICAL = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
OPTICAL_TO_BODY = Quaternion(x=0.5, y=-0.5, z=0.5, w=0.5)

# As tf2_ros, but best-effort publishers are heard, too.
TF_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
TF_STATIC_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def main(argv: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM, or until it is clear that there is nothing to publish. Returns the exit code.

    Raises:
        DepthNodeError: tf2_msgs is not installed, or the images have no frame_id.
    """
    arguments = parse_arguments(remove_ros_args(argv))
    is_stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_stopped.set())
    with ros_context(argv) as context:
        helper = RvizFrame(context, arguments.view_frame, arguments.fixed_frame, arguments.wait)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(helper)
        while not is_stopped.is_set() and not helper.is_done:
            executor.spin_once(SPIN_S)
            helper.decide()
        helper.destroy_node()
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line without its ROS arguments."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="rviz_frame", description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    frame = parser.add_mutually_exclusive_group()
    frame.add_argument(
        "--view-frame",
        default=VIEW_FRAME,
        metavar="FRAME",
        help=f"RViz's fixed frame, a new one at the camera (default: {VIEW_FRAME})",
    )
    frame.add_argument("--fixed-frame", metavar="FRAME", help="RViz's fixed frame, one of the robot's, such as map")
    parser.add_argument(
        "--wait",
        type=float,
        default=DEFAULT_WAIT_S,
        metavar="SECONDS",
        help=f"time for others to publish the camera's transform, from the first depth (default: {DEFAULT_WAIT_S:g})",
    )
    return parser.parse_args(argv)


@contextmanager
def ros_context(argv: list[str] | None) -> Iterator[Context]:
    """ROS with the given arguments, and without signal handlers of its own."""
    use_shipped_fastdds_profile()
    context = Context()
    rclpy.init(args=argv, context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield context
    finally:
        context.shutdown()


class FrameTree:
    """Which frame is whose parent."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def add(self, parent: str, child: str) -> None:
        """Note a transform; a frame's newest parent counts, as in tf2."""
        self._parents[child] = parent

    def __contains__(self, frame: str) -> bool:
        return frame in self._parents or frame in self._parents.values()

    def root(self, frame: str) -> str:
        """The frame at the top of a frame's tree: the frame itself, if nobody knows it."""
        seen = set()
        while frame in self._parents and frame not in seen:
            seen.add(frame)
            frame = self._parents[frame]
        return frame

    def connects(self, a: str, b: str) -> bool:
        """Whether there is a transform between two frames."""
        return self.root(a) == self.root(b)


class RvizFrame(Node):
    """Learns the camera's frame and the frames of TF, then decides once whether a transform is to be published.

    view_frame: a frame to publish below the camera's, unless there is a `fixed_frame`.
    wait_s: seconds between the first depth and the decision about a `fixed_frame`.
    is_done: there is nothing to publish.

    Raises:
        DepthNodeError: tf2_msgs is not installed.
    """

    def __init__(self, context: Context, view_frame: str, fixed_frame: str | None, wait_s: float) -> None:
        self._tf_message = tf_message_class()
        super().__init__("rviz_frame", context=context, start_parameter_services=False)
        self.is_done = False
        self._has_own_frame = fixed_frame is None
        self._fixed_frame = without_slash(fixed_frame or view_frame)
        self._wait_s = wait_s
        self._camera_frame: str | None = None
        self._deadline = 0.0
        self._is_published = False
        self._tree = FrameTree()
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._camera_info = self.create_subscription(CameraInfo, "depth/camera_info", self._receive_camera_info, qos)
        for topic, tf_qos in (("/tf", TF_QOS), ("/tf_static", TF_STATIC_QOS)):
            self.create_subscription(self._tf_message, topic, self._receive_transforms, tf_qos)

    def decide(self) -> None:
        """Publish the transform, or be done, as soon as that is clear.

        Raises:
            DepthNodeError: the images have no frame_id.
        """
        camera, fixed = self._camera_frame, self._fixed_frame
        if camera is None or self._is_published:
            return
        if not camera:
            raise DepthNodeError("the images have no frame_id, which RViz needs; set it in the camera's driver")
        if self._tree.connects(fixed, camera):
            self.get_logger().info(f"RViz's fixed frame '{fixed}' and '{camera}' are connected: nothing to publish")
            self.is_done = True
        elif self._has_own_frame:
            self._publish(camera, fixed, OPTICAL_TO_BODY)
            self.get_logger().info(f"publishing '{camera}' -> '{fixed}' for RViz: at the camera, upright")
        elif time.monotonic() < self._deadline:
            return
        elif camera in self._tree:
            root = self._tree.root(camera)
            self.get_logger().warning(
                f"TF knows '{camera}', but does not connect it with RViz's fixed frame '{fixed}': "
                f"choose '{root}' in RViz, or start with fixed_frame:={root}"
            )
            self.is_done = True
        else:
            self._publish(fixed, camera, BODY_TO_OPTICAL)
            self.get_logger().info(
                f"nobody published a transform of '{camera}' within {self._wait_s:g} s: "
                f"publishing '{fixed}' -> '{camera}' for RViz, at the origin, looking along x"
            )

    def _publish(self, parent: str, child: str, rotation: Quaternion) -> None:
        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = parent
        transform.header.stamp = self.get_clock().now().to_msg()
        transform.transform.rotation = rotation
        qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_publisher(self._tf_message, "/tf_static", qos).publish(self._tf_message(transforms=[transform]))
        self._is_published = True

    def _receive_camera_info(self, message: CameraInfo) -> None:
        if self._camera_frame is None:
            self._camera_frame = without_slash(message.header.frame_id)
            self._deadline = time.monotonic() + self._wait_s
            self.destroy_subscription(self._camera_info)  # the depth node works only while somebody listens

    def _receive_transforms(self, message: Any) -> None:
        for transform in message.transforms:
            parent, child = without_slash(transform.header.frame_id), without_slash(transform.child_frame_id)
            is_too_late = self._is_published and not self._has_own_frame and child == self._camera_frame
            if is_too_late and parent != self._fixed_frame:
                self.get_logger().warning(
                    f"'{child}' has two parents now, since '{parent}' -> '{child}' came late: start RViz again",
                    once=True,
                )
            self._tree.add(parent, child)


def tf_message_class() -> Any:
    """tf2_msgs/TFMessage, which ROS installations have, and PyPI does not.

    Raises:
        DepthNodeError: it is not installed.
    """
    try:
        from tf2_msgs.msg import TFMessage
    except ModuleNotFoundError as error:
        raise DepthNodeError(
            "tf2_msgs is not installed; it comes with RViz: `apt install ros-$ROS_DISTRO-rviz2`"
        ) from error
    return TFMessage


def without_slash(frame: str) -> str:
    """A frame's name as tf2 has it: ROS 1 wrote a leading slash."""
    return frame.removeprefix("/")
