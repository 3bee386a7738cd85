"""The node's four results: publishers, who listens to them, and the messages made of a depth frame."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from depth_node.camera import backproject
from depth_node.camera_messages import camera_info_message
from depth_node.clouds import organized_cloud
from depth_node.color import colorize
from depth_node.frames import DepthFrame
from depth_node.images import color_image_message, depth_image_message
from depth_node.parameters import Settings

QOS = QoSProfile(depth=5)  # reliable, keep last

Maker = Callable[[DepthFrame, Header, Settings], Any]


class Outputs:
    """Lifecycle publishers of `depth/image`, `depth/camera_info`, `points` and `depth/color`."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._publishers = {
            topic: node.create_lifecycle_publisher(message_type, topic, QOS)
            for topic, (message_type, _) in _RESULTS.items()
        }

    def is_wanted(self) -> bool:
        """Whether anybody listens to anything."""
        return any(publisher.get_subscription_count() > 0 for publisher in self._publishers.values())

    def publish(self, result: DepthFrame, header: Header, settings: Settings) -> dict[str, float]:
        """Make and publish what somebody listens to, with the image's own header; seconds that each topic took."""
        limit_range(result.depth, settings.min_range, settings.max_range)
        seconds = {}
        for topic, publisher in self._publishers.items():
            if publisher.get_subscription_count() > 0:
                started = perf_counter()
                publisher.publish(_RESULTS[topic][1](result, header, settings))
                seconds[topic.replace("/", "_")] = perf_counter() - started
        return seconds

    def destroy(self) -> None:
        """Take the publishers away."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)


def limit_range(depth: NDArray[np.float32], nearest: float, farthest: float) -> None:
    """Set depth outside [nearest, farthest] metres to NaN, in place."""
    if nearest > 0:
        depth[depth < nearest] = np.nan
    if farthest < np.inf:
        depth[depth > farthest] = np.nan


def _depth_image(result: DepthFrame, header: Header, settings: Settings) -> Image:
    return depth_image_message(result.depth, header)


def _camera_info(result: DepthFrame, header: Header, settings: Settings) -> CameraInfo:
    return camera_info_message(result.camera, result.intrinsics_source == "camera_info", header)


def _points(result: DepthFrame, header: Header, settings: Settings) -> PointCloud2:
    stride = settings.cloud_stride
    points = backproject(result.depth, result.camera, stride)
    return organized_cloud(points, result.frame.rgb[::stride, ::stride], header)


def _color(result: DepthFrame, header: Header, settings: Settings) -> Image:
    picture = colorize(result.depth, settings.color_min_depth, settings.color_max_depth, settings.colormap)
    return color_image_message(picture, header)


# Small and early results first; camera_info beside the image that it belongs to.
_RESULTS: dict[str, tuple[type, Maker]] = {
    "depth/camera_info": (CameraInfo, _camera_info),
    "depth/image": (Image, _depth_image),
    "points": (PointCloud2, _points),
    "depth/color": (Image, _color),
}
