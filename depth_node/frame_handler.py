"""What the node does with one image: decode, infer, publish; and what it says about bad ones. Runs in the worker."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_from_info
from depth_node.errors import CameraError, CameraSizeError, DepthNodeError, ImageError
from depth_node.frames import DepthFrame, Frame
from depth_node.images import rgb_from_compressed, rgb_from_image
from depth_node.outputs import Outputs
from depth_node.parameters import Settings
from depth_node.pipeline import DepthPipeline
from depth_node.statistics import Statistics


@dataclass(frozen=True)
class ReceivedImage:
    """An image message as it came, and when, in seconds of `Statistics.clock`."""

    message: Image | CompressedImage
    received: float


class FrameHandler:
    """Handles the images of one active phase of the node; never raises, whatever the image.

    settings, camera_info: may be replaced at any time; the next image is handled with them.
    intrinsics_source: of the last result, empty before the first.
    """

    def __init__(
        self, node: Node, pipeline: DepthPipeline, outputs: Outputs, statistics: Statistics, settings: Settings
    ) -> None:
        self.settings = settings
        self.camera_info: CameraInfo | None = None
        self.intrinsics_source = ""
        self._node = node
        self._pipeline = pipeline
        self._outputs = outputs
        self._statistics = statistics
        self._image_size: tuple[int, int] | None = None
        self._announced_sources: set[str] = set()

    def handle(self, image: ReceivedImage) -> None:
        """Publish what somebody wants of this image. Faults are counted, and logged once per kind."""
        try:
            self._process(image)
        except ImageError as error:
            self._report(error.kind, str(error))
        except DepthNodeError as error:
            self._report(type(error).__name__, str(error))
        except Exception:
            if self._node.context.ok():  # else ROS was shut down under a frame, which is no fault
                self._report("internal", traceback.format_exc())

    def _process(self, image: ReceivedImage) -> None:
        if not self._outputs.is_wanted():
            self._statistics.frame_unwanted()
            return
        clock, message = self._statistics.clock, image.message
        started = clock()
        is_compressed = isinstance(message, CompressedImage)
        rgb = rgb_from_compressed(message) if is_compressed else rgb_from_image(message)
        decoded = clock()

        height, width = rgb.shape[:2]
        self._check_size(width, height)
        stamp = message.header.stamp
        frame = Frame(stamp.sec * 1_000_000_000 + stamp.nanosec, message.header.frame_id, rgb)
        result = self._pipeline.process(frame, self._camera(width, height))
        self._announce_intrinsics(result)

        publishing = self._outputs.publish(result, message.header, self.settings)
        before = {"wait": started - image.received, "decode": decoded - started}
        self._statistics.frame_published(image.received, {**before, **result.seconds, **publishing})

    def _camera(self, width: int, height: int) -> PinholeCamera | None:
        """The calibrated camera of an image, if there is a camera_info that can be used."""
        if self.camera_info is None:
            return None
        try:
            return camera_from_info(self.camera_info, width, height)
        except CameraSizeError as error:
            self._report("camera_info_size", str(error))
        except CameraError as error:
            self._report("camera_info", str(error))
        return None

    def _check_size(self, width: int, height: int) -> None:
        before = self._image_size
        self._image_size = width, height
        if before is not None and before != self._image_size:
            sizes = f"{before[0]}x{before[1]} to {width}x{height}"
            self._report("resolution", f"the images changed from {sizes} pixels in mid-stream; going on with these")

    def _announce_intrinsics(self, result: DepthFrame) -> None:
        source, camera = result.intrinsics_source, result.camera
        self.intrinsics_source = source
        if source in self._announced_sources:
            return
        self._announced_sources.add(source)
        topic = self._node.resolve_topic_name("camera_info")
        numbers = f"fx {camera.fx:.1f}, fy {camera.fy:.1f}, cx {camera.cx:.1f}, cy {camera.cy:.1f}"
        if source == "prior":
            self._node.get_logger().warning(
                f"no usable camera_info on {topic}: taking the model's intrinsics prior ({numbers}); the geometry is "
                "approximate, and depth/camera_info says 'uncalibrated'"
            )
        else:
            self._node.get_logger().info(f"intrinsics from {topic}: {numbers}")

    def _report(self, kind: str, message: str) -> None:
        if self._statistics.error(kind, message):
            self._node.get_logger().error(f"{message} (others of this kind are only counted, see /diagnostics)")
