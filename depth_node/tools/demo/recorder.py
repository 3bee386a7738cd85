"""Hears what the node publishes, and keeps of it what the report and the pictures need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from depth_node.frames import stamp_ns
from depth_node.images import rgb_from_image
from depth_node.tools.demo.truth import TruthReader, median_scaled_abs_rel

QUEUE = 5
PREVIEW_WIDTH = 1280  # pixels; wider ones are shrunk, since they wait in memory


class Recorder:
    """Subscribes to a depth node's results and diagnostics.

    frames: number of depth images that came. abs_rel: of each of them that has truth.
    previews: every n-th depth colour image, uint8 [H, W, 3], by the stamp (ns) of the camera image.
    cloud: the one that is nearest to the middle of the drive. diagnostics: the newest; failure: what it complains of.
    """

    def __init__(
        self, node: Node, executor: SingleThreadedExecutor, drive_frames: int, previews: int, truth: TruthReader | None
    ) -> None:
        self.frames = 0
        self.abs_rel: list[float] = []
        self.previews: dict[int, NDArray[np.uint8]] = {}
        self.cloud: PointCloud2 | None = None
        self.camera_info: CameraInfo | None = None
        self.diagnostics: dict[str, str] = {}
        self.diagnostics_count = 0
        self.failure = ""
        self._executor = executor
        self._colors = self._clouds = 0
        self._preview_step = max(1, -(-drive_frames // previews))
        self._middle = drive_frames // 2
        self._truth = truth
        node.create_subscription(Image, "depth/image", self._receive_depth, QUEUE)
        node.create_subscription(Image, "depth/color", self._receive_color, QUEUE)
        node.create_subscription(CameraInfo, "depth/camera_info", self._receive_camera_info, QUEUE)
        node.create_subscription(PointCloud2, "points", self._receive_cloud, QUEUE)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._receive_diagnostics, QUEUE)

    def spin_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Receive until the condition holds; False if it does not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=0.1)
        return True

    def has_diagnostics(self, count: int) -> bool:
        """Whether so many diagnostics have come since the beginning."""
        return self.diagnostics_count >= count

    def _receive_depth(self, message: Image) -> None:
        self.frames += 1
        truth = self._truth.at(stamp_ns(message)) if self._truth else None
        if truth is not None and truth.shape == (message.height, message.width):
            depth = np.frombuffer(message.data, np.float32).reshape(truth.shape)
            self.abs_rel.append(median_scaled_abs_rel(depth, truth))

    def _receive_color(self, message: Image) -> None:
        if self._colors % self._preview_step == 0:
            self.previews[stamp_ns(message)] = shrunk(rgb_from_image(message), PREVIEW_WIDTH)
        self._colors += 1

    def _receive_camera_info(self, message: CameraInfo) -> None:
        self.camera_info = message

    def _receive_cloud(self, message: PointCloud2) -> None:
        if self._clouds <= self._middle:
            self.cloud = message
        self._clouds += 1

    def _receive_diagnostics(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        self.diagnostics = {value.key: value.value for value in status.values}
        self.diagnostics_count += 1
        self.failure = status.message if status.level == DiagnosticStatus.ERROR else ""


def shrunk(rgb: NDArray[np.uint8], max_width: int) -> NDArray[np.uint8]:
    """A copy of uint8 [H, W, 3], shrunk to max_width if it is wider."""
    height, width = rgb.shape[:2]
    if width <= max_width:
        return rgb.copy()
    size = max_width, max(1, round(height * max_width / width))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


@contextmanager
def recording(drive_frames: int, previews: int, truth: TruthReader | None) -> Iterator[Recorder]:
    """A recorder in a ROS node of its own; it receives while `spin_until` runs."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Node("demo_recorder", context=context, enable_rosout=False, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield Recorder(node, executor, drive_frames, previews, truth)
    finally:
        node.destroy_node()
        context.shutdown()
