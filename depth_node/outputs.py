"""The node's results: publishers, who listens to them, and the messages made of a depth frame."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from depth_node.camera import backproject
from depth_node.camera_messages import camera_info_message
from depth_node.clouds import dense_cloud, organized_cloud, voxel_filter
from depth_node.color import colorize
from depth_node.errors import DepthNodeError
from depth_node.frames import DepthFrame
from depth_node.images import color_image_message, confidence_image_message, depth_image_message
from depth_node.parameters import Settings
from depth_node.scans import ScanBand, laser_scan, scan_frame

QUEUE = 5  # reliable by default, keep last; qos_overrides changes it

Maker = Callable[[DepthFrame, Header, Settings], Any]
Report = Callable[[str, str], None]


class Outputs:
    """Lifecycle publishers of the results; `depth/confidence` and `scan` only where there is such a thing."""

    def __init__(self, node: LifecycleNode, has_confidence: bool, has_scan: bool) -> None:
        self._node = node
        absent = {topic for topic, exists in (("depth/confidence", has_confidence), ("scan", has_scan)) if not exists}
        self._publishers = {
            topic: node.create_lifecycle_publisher(
                message_type,
                topic,
                QoSProfile(depth=QUEUE),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for topic, (message_type, _) in _RESULTS.items()
            if topic not in absent
        }

    def is_wanted(self) -> bool:
        """Whether anybody listens to anything."""
        return any(publisher.get_subscription_count() > 0 for publisher in self._publishers.values())

    def rivals(self) -> str:
        """Who else publishes depth images on this node's topic; empty if nobody does."""
        topic = self._publishers["depth/image"].topic_name
        publishers = self._node.count_publishers(topic)
        return f"{publishers} publishers on {topic}: give each node a namespace of its own" if publishers > 1 else ""

    def publish(self, result: DepthFrame, header: Header, settings: Settings, report: Report) -> dict[str, float]:
        """Make and publish what somebody listens to, with the image's own header; seconds that each topic took.

        report: told the topic and the reason where one of them cannot be made; the others are published all the same.
        """
        seconds = {}
        for topic, publisher in self._publishers.items():
            if publisher.get_subscription_count() > 0:
                started, name = perf_counter(), topic.replace("/", "_")
                try:
                    publisher.publish(_RESULTS[topic][1](result, header, settings))
                except DepthNodeError as error:
                    report(name, f"cannot publish {topic}: {error}")
                seconds[name] = perf_counter() - started
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
    return depth_image_message(result.depth, header, settings.depth_encoding)


def _camera_info(result: DepthFrame, header: Header, settings: Settings) -> CameraInfo:
    return camera_info_message(result.camera, result.intrinsics_source != "prior", header)


def _points(result: DepthFrame, header: Header, settings: Settings) -> PointCloud2:
    stride, rgb = settings.cloud_stride, result.frame.rgb
    if settings.cloud_organized:
        return organized_cloud(result.depth, result.camera, rgb, stride, header)
    points, rgb = backproject(result.depth, result.camera, stride), rgb[::stride, ::stride]
    if settings.cloud_voxel_size > 0:
        points, rgb = voxel_filter(points, rgb, settings.cloud_voxel_size)
    return dense_cloud(points, rgb, header)


def _color(result: DepthFrame, header: Header, settings: Settings) -> Image:
    picture = colorize(result.depth, settings.color_min_depth, settings.color_max_depth, settings.color_map)
    return color_image_message(picture, header)


def _confidence(result: DepthFrame, header: Header, settings: Settings) -> Image:
    assert result.confidence is not None
    return confidence_image_message(result.confidence, header)


def _image_rect(result: DepthFrame, header: Header, settings: Settings) -> Image:
    return color_image_message(result.frame.rgb, header)


def _scan(result: DepthFrame, header: Header, settings: Settings) -> LaserScan:
    band = ScanBand(
        settings.scan_min_height,
        settings.scan_max_height,
        settings.scan_camera_pitch,
        settings.min_range,
        settings.max_range,
    )
    frame_id = scan_frame(header.frame_id, settings.scan_frame)
    return laser_scan(result.depth, result.camera, band, Header(stamp=header.stamp, frame_id=frame_id))


# Small and early results first; camera_info beside the image that it belongs to.
_RESULTS: dict[str, tuple[type, Maker]] = {
    "depth/camera_info": (CameraInfo, _camera_info),
    "depth/image": (Image, _depth_image),
    "scan": (LaserScan, _scan),
    "points": (PointCloud2, _points),
    "rgb/image_rect": (Image, _image_rect),
    "depth/confidence": (Image, _confidence),
    "depth/color": (Image, _color),
}
