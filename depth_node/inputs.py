"""The node's subscriptions: which topics they are, and why they are silent."""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node.frames import stamp_ns
from depth_node.input_stream import StampMonitor

COMPRESSED = "/compressed"
NOBODY = "nobody publishes"
MOST_ARRIVALS = 1000  # that wait to be judged: more than come in a period of diagnostics, unless that is set very long


class Inputs:
    """Subscriptions to `image` and `camera_info`: sensor-data QoS with a queue of one, since only the newest counts.

    Args:
        image_transport: `raw` or `compressed`.
        receive_image: called with the message and the number of images that were lost before it on the way here, None
            where that is not known.
        receive_camera_info: called with the message.
    """

    def __init__(
        self,
        node: Node,
        image_transport: str,
        receive_image: Callable[[Image | CompressedImage, int | None], None],
        receive_camera_info: Callable[[CameraInfo], None],
    ) -> None:
        self._node = node
        self._receive_image = receive_image
        self._image_type = CompressedImage if image_transport == "compressed" else Image
        self.image_topic = image_topic(node.resolve_topic_name("image"), image_transport)
        self.lost_share = 0.0
        self._publisher_count = 0
        self._image_number: int | None = None
        self._stamps = StampMonitor()
        self._arrivals: deque[tuple[int, int | None]] = deque(maxlen=MOST_ARRIVALS)
        callback: Callable[..., None] = self._receive  # rclpy's types know no second argument
        self._subscriptions = [
            self._subscribe(CameraInfo, camera_info_topic(node, self.image_topic), receive_camera_info),
            self._subscribe(self._image_type, self.image_topic, callback),
        ]

    def destroy(self) -> None:
        """Hear no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the stream of images since the last call: kind and sentence of each fault, in order.

        To be asked at leisure, since it takes time that an image would wait for. `lost_share` is of the last one then:
        the share of recent images that were lost, 0 to 1.
        """
        arrivals = list(self._arrivals)
        self._arrivals.clear()
        for arrival in arrivals:
            report = self._stamps.add(*arrival)
            self.lost_share = report.lost_share
            if report.kind is not None:
                yield report.kind, report.message
        if arrivals and self._publisher_count > 1:
            yield "publishers", f"{self._publisher_count} publishers on {self.image_topic}: leave it to one of them"

    @property
    def camera_info_topic(self) -> str:
        """Where the camera_info comes from, resolved."""
        return self._subscriptions[0].topic_name

    def silence(self) -> str:
        """Why no images come in, which most often is a topic's name or type."""
        fault = publisher_fault(self._node, self._subscriptions[1], "choose another topic, or image_transport")
        if fault.startswith(NOBODY):
            return fault + self._other_topics(f"sensor_msgs/msg/{self._image_type.__name__}")
        return fault or f"no images come in on {self.image_topic}"

    def _other_topics(self, expected: str) -> str:
        own = self._node.get_fully_qualified_name()
        others = [
            name
            for name, types in self._node.get_topic_names_and_types()
            if expected in types and any(self._full_name(info) != own for info in self._publishers(name))
        ]
        return f"; topics of this type: {', '.join(sorted(others))}" if others else ""

    def _publishers(self, topic: str) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(topic))

    @staticmethod
    def _full_name(info: Any) -> str:
        return posixpath.join(info.node_namespace, info.node_name)

    def _subscribe(self, message_type: type, topic: str, callback: Callable[..., None]) -> Subscription:
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        overrides = QoSOverridingOptions.with_default_policies()
        return self._node.create_subscription(message_type, topic, callback, qos, qos_overriding_options=overrides)

    def _receive(self, message: Image | CompressedImage, info: Mapping[str, int | None]) -> None:
        missed = self._missed_images(info["publication_sequence_number"])
        self._arrivals.append((stamp_ns(message), missed))
        self._receive_image(message, missed)

    def _missed_images(self, number: int | None) -> int | None:
        """Images that the publisher sent since the last one; None where the middleware does not number them."""
        before, self._image_number = self._image_number, number
        self._publisher_count = self._node.count_publishers(self.image_topic)
        # Two publishers' numbers are not to be compared.
        if number is None or before is None or self._publisher_count != 1:
            return None
        return max(0, number - before - 1)


def publisher_fault(node: Node, subscription: Subscription, remedy: str) -> str:
    """Why a subscription hears nothing from those who publish its topic; empty where nothing is wrong with them.

    remedy: for a topic of another type.
    """
    topic, expected = subscription.topic_name, type_name(subscription.msg_type)
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return f"{NOBODY} {topic}"
    types = {publisher.topic_type for publisher in publishers}
    if expected not in types:
        return f"{topic} is of type {' and '.join(sorted(types))}, not {expected}: {remedy}"
    matches = [qos_check_compatible(publisher.qos_profile, subscription.qos_profile) for publisher in publishers]
    if all(compatibility == QoSCompatibility.ERROR for compatibility, _ in matches):
        reason = matches[0][1].removeprefix("ERROR: ").rstrip("; ")
        return f"the QoS of {topic} does not fit its publisher's, see qos_overrides: {reason}"
    return ""


def type_name(message_type: Any) -> str:
    """As ROS writes it: `sensor_msgs/msg/Image`."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def image_topic(resolved: str, image_transport: str) -> str:
    """The topic that carries the images of a base topic, as image_transport names it."""
    if image_transport == "compressed" and not resolved.endswith(COMPRESSED):
        return resolved + COMPRESSED
    return resolved


def camera_info_topic(node: Node, image: str) -> str:
    """The remapped `camera_info`, or else the one beside the image topic, where drivers and image_transport put it."""
    remapped = node.resolve_topic_name("camera_info")
    if remapped != node.resolve_topic_name("camera_info", only_expand=True):
        return remapped
    return posixpath.join(posixpath.dirname(image.removesuffix(COMPRESSED)), "camera_info")


def is_rectified_topic(image: str) -> bool:
    """Whether a topic's name says that its images are rectified, as image_proc's image_rect and image_rect_color do."""
    return "image_rect" in posixpath.basename(image.removesuffix(COMPRESSED))
