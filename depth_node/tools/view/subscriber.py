"""The ROS side: subscribes what is shown, and gives the scene what the frame rate admits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import InvalidNamespaceException, InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2

from depth_node.compressed_images import rgb_from_compressed
from depth_node.errors import DepthNodeError
from depth_node.frames import stamp_ns
from depth_node.images import rgb_from_image
from depth_node.tools.view.frame_selector import FrameSelector
from depth_node.tools.view.scene import Scene, SceneOptions
from depth_node.tools.view.status import is_of_depth_node

# The newest only, and never holding back the publisher.
LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
COMPRESSED = "/compressed"  # the suffix of image_transport

Show = Callable[[Any, int], None]


class Subscriber:
    """Subscriptions of one depth node's topics.

    node: in the namespace of the depth node. image: topic of the image to show, with `/compressed` for CompressedImage.
    shown: messages given to the scene, by topic.

    Raises:
        DepthNodeError: `image` is no name of a topic.
    """

    def __init__(self, node: Node, scene: Scene, options: SceneOptions, image: str, selector: FrameSelector) -> None:
        self.shown: Counter[str] = Counter()
        self._node = node
        self._scene = scene
        self._selector = selector
        self._faults: set[str] = set()
        # camera_info first: the others are shown with it.
        self._subscribe(CameraInfo, "depth/camera_info", scene.add_camera_info)
        if image.endswith(COMPRESSED):
            self._subscribe(CompressedImage, image, lambda m, stamp: scene.add_image(rgb_from_compressed(m), stamp))
        else:
            self._subscribe(Image, image, lambda m, stamp: scene.add_image(rgb_from_image(m), stamp))
        self._subscribe(Image, "depth/image", scene.add_depth)
        if options.confidence:
            self._subscribe(Image, "depth/confidence", scene.add_confidence)
        if options.cloud:
            self._subscribe(PointCloud2, "points", scene.add_cloud)
        if options.scan:
            self._subscribe(LaserScan, "scan", scene.add_scan)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._receive_diagnostics, 10)

    def missing(self) -> str:
        """Why no depth is shown, in a sentence; empty if it is."""
        if self.shown["depth/image"]:
            return ""
        topic = self._node.resolve_topic_name("depth/image")
        if self._node.count_publishers(topic) == 0:
            return f"nobody publishes {topic}: start depth_node, or say where it is with --namespace"
        return f"nothing comes on {topic}: is the node active, and does it get images? The panel status says more"

    def _subscribe(self, message_type: type, topic: str, show: Show) -> None:
        def receive(message: Any) -> None:
            stamp = stamp_ns(message)
            if not self._selector.admits(topic, stamp) or not self._scene.has_caught_up():
                return
            try:
                show(message, stamp)
            except DepthNodeError as error:
                if topic not in self._faults:
                    self._node.get_logger().warning(f"{topic} is not shown: {error}")
                self._faults.add(topic)
            else:
                self.shown[topic] += 1

        try:
            self._node.create_subscription(message_type, topic, receive, LATEST)
        except InvalidTopicNameException as error:
            raise DepthNodeError(f"'{topic}' is no name of a topic: {error}") from error

    def _receive_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if is_of_depth_node(status.name, self._node.get_namespace()):
                self._scene.add_diagnostics(status)


@contextmanager
def ros_node(argv: list[str] | None, namespace: str) -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """A node of its own context, and its executor.

    Raises:
        DepthNodeError: the namespace is none.
    """
    context = rclpy.Context()
    rclpy.init(args=argv, context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node("view", namespace=namespace, context=context, enable_rosout=False, start_parameter_services=False)
    except InvalidNamespaceException as error:
        context.shutdown()
        raise DepthNodeError(f"--namespace {namespace}: {error}") from error
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        context.shutdown()
