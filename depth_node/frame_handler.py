"""What the node does with one image: decode, infer, publish; and what it says about bad ones. Runs in the worker."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_from_info, rectification_from_info
from depth_node.compressed_images import rgb_from_compressed
from depth_node.errors import CameraError, CameraSizeError, DepthNodeError, ImageError
from depth_node.frames import DepthFrame, Frame, stamp_ns
from depth_node.images import rgb_from_image
from depth_node.inputs import Inputs, is_rectified_topic
from depth_node.online_intrinsics import OnlineIntrinsics
from depth_node.online_scale import OnlineScale
from depth_node.outputs import Outputs, limit_range
from depth_node.parameters import Settings
from depth_node.pipeline import DepthOptions, DepthPipeline
from depth_node.rectification import Rectification
from depth_node.statistics import Statistics
from depth_node.view_thread import ViewThread

TakeSnapshot = Callable[[DepthFrame], None]


@dataclass(frozen=True)
class ReceivedImage:
    """An image message as it came, and when, in seconds of `Statistics.clock`."""

    message: Image | CompressedImage
    received: float


class FrameHandler:
    """Handles the images of one active phase of the node; never raises, whatever the image.

    settings, camera_info, take_snapshot: may be replaced at any time; the next image is handled with them.
    take_snapshot: called once with the next result, whether anybody else wants it or not.
    """

    def __init__(
        self,
        node: Node,
        pipeline: DepthPipeline,
        outputs: Outputs,
        intrinsics: OnlineIntrinsics,
        scale: OnlineScale,
        views: ViewThread,
        statistics: Statistics,
        settings: Settings,
        inputs: Inputs,
    ) -> None:
        self.settings = settings
        self.camera_info: CameraInfo | None = None
        self.take_snapshot: TakeSnapshot | None = None
        self._node = node
        self._pipeline = pipeline
        self._outputs = outputs
        self._intrinsics = intrinsics
        self._scale = scale
        self._views = views
        self._statistics = statistics
        self._is_rectified_topic = is_rectified_topic(inputs.image_topic)
        self._image_size: tuple[int, int] | None = None
        self._frame_id: str | None = None
        self._other_frame_id: str | None = None

    def handle(self, image: ReceivedImage) -> None:
        """Publish what somebody wants of this image. Faults are counted, and logged once per kind."""
        try:
            self._process(image)
        except ImageError as error:
            self._lose(error.kind, str(error))
        except DepthNodeError as error:
            self._lose(type(error).__name__, str(error))
        except Exception:
            if self._node.context.ok():  # else ROS was shut down under a frame, which is no fault
                self._lose("internal", traceback.format_exc())

    def report(self, kind: str, message: str) -> None:
        """Count a fault that costs no image, and log the first of its kind."""
        self._log(self._statistics.error(kind, message), message)

    def _lose(self, kind: str, message: str) -> None:
        self._log(self._statistics.frame_faulty(kind, message), message)

    def _log(self, is_first: bool, message: str) -> None:
        if is_first:
            self._node.get_logger().error(f"{message} (others of this kind are only counted, see /diagnostics)")

    def _process(self, image: ReceivedImage) -> None:
        listeners = (self._outputs, self._intrinsics, self._scale)
        if self.take_snapshot is None and not any(listener.is_wanted() for listener in listeners):
            self._statistics.frame_unwanted()
            return
        clock, message, settings = self._statistics.clock, image.message, self.settings
        started = clock()
        is_compressed = isinstance(message, CompressedImage)
        rgb = rgb_from_compressed(message) if is_compressed else rgb_from_image(message)
        decoded = clock()

        header = message.header
        height, width = rgb.shape[:2]
        self._check_stream(width, height, header.frame_id)
        self._check_camera_info(header.frame_id)
        frame = Frame(stamp_ns(message), header.frame_id, rgb)
        self._pipeline.options = depth_options(settings)
        calibrated = self._calibrated_camera(width, height, settings.rectify)
        selected = self._intrinsics.camera_of(calibrated, width, height, frame.stamp_ns)
        result = self._pipeline.process(frame, selected.camera, selected.source)
        limit_range(result.depth, settings.min_range, settings.max_range)
        self._scale.announce(result.scale)

        publishing = self._outputs.publish(result, header, settings, self.report)
        self._intrinsics.publish(header, width, height)
        self._scale.publish(result.scale, header)
        before = {"wait": started - image.received, "decode": decoded - started}
        self._statistics.frame_published(image.received, {**before, **result.seconds, **publishing})
        take_snapshot, self.take_snapshot = self.take_snapshot, None
        if take_snapshot is not None:
            take_snapshot(result)
        # What can wait comes behind what somebody waits for.
        if self._views.wants(clock(), settings.intrinsics_rate):
            self._views.show(self._pipeline.view())

    def _calibrated_camera(self, width: int, height: int, rectify: str) -> PinholeCamera | Rectification | None:
        """The camera of an image, if there is a camera_info that can be used."""
        info = self.camera_info
        if info is None:
            return None
        is_rectified = rectify == "done" or (rectify == "auto" and self._is_rectified_topic)
        try:
            rectification = (
                rectification_from_info(info, width, height) if rectify == "auto" and not is_rectified else None
            )
            return rectification or camera_from_info(info, width, height, is_rectified)
        except CameraSizeError as error:
            self.report("camera_info_size", str(error))
        except CameraError as error:
            self.report("camera_info", str(error))
        return None

    def _check_stream(self, width: int, height: int, frame_id: str) -> None:
        size, before = (width, height), self._image_size
        if before is not None and before != size:
            sizes = f"{before[0]}x{before[1]} to {width}x{height}"
            self.report("resolution", f"the images changed from {sizes} pixels in mid-stream; going on with these")
        if frame_id != self._frame_id:
            if not frame_id:
                self.report("frame_id", "the images have no frame_id, and so have the results: TF cannot place them")
            elif self._frame_id is not None:
                frames = f"'{self._frame_id}' to '{frame_id}'"
                self.report("frame_id", f"the images changed from frame {frames} in mid-stream; going on with these")
        self._image_size, self._frame_id = size, frame_id

    def _check_camera_info(self, frame_id: str) -> None:
        """Whether camera_info is of the images' own camera: a driver gives both of them its frame."""
        other = self.camera_info.header.frame_id if self.camera_info is not None else ""
        if other and other not in (frame_id, self._other_frame_id):
            cameras = f"camera_info is of frame '{other}', but the images are of '{frame_id}'"
            self.report("camera_info_frame", f"{cameras}; if these are two cameras, remap camera_info")
            self._other_frame_id = other


def depth_options(settings: Settings) -> DepthOptions:
    """The pipeline's share of the node's settings."""
    return DepthOptions(
        output_resolution=settings.output_resolution,
        min_confidence=settings.min_confidence,
        remove_sky=settings.remove_sky,
        scale_mode=settings.scale_mode,
        scale_factor=settings.scale_factor,
        camera_height=settings.scale_camera_height,
    )
