"""The node's side of learned intrinsics: which camera an image has, what is published and kept, and what is said."""

from __future__ import annotations

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_info_message
from depth_node.errors import DepthNodeError
from depth_node.frames import NetworkView
from depth_node.inputs import camera_info_topic, image_topic
from depth_node.intrinsics.description import (
    distortion_warning,
    focal_lengths,
    selected_values,
    state_sentence,
    tracked_values,
)
from depth_node.intrinsics.estimate import Intrinsics
from depth_node.intrinsics.estimator import EstimatorOptions
from depth_node.intrinsics.observation import MotionObserver
from depth_node.intrinsics.selection import CameraSelector, SelectedCamera
from depth_node.intrinsics.store import (
    IntrinsicsStore,
    StoredIntrinsics,
    camera_name_of_topic,
    intrinsics_directory,
)
from depth_node.intrinsics.tracker import (
    WRONG_SIGMAS,
    IntrinsicsTracker,
    TrackedIntrinsics,
    deviation,
    is_comparable,
)
from depth_node.parameters import Settings
from depth_node.rectification import Rectification

QUEUE = 5
# Once known, the intrinsics hardly change, and to look now and then is enough.
LOOK_S, REST_S = 5.0, 15.0
MOST_ANNOUNCEMENTS = 50  # two publishers of camera_info, a good one and a bad one, would fill the log


class OnlineIntrinsics:
    """Chooses the camera of every image, and learns it from views (a `ViewConsumer`) while somebody needs that.

    settings: may be replaced at any time. deviation: of the camera_info in use from what was learned, in standard
    deviations; None while neither is known.
    """

    def __init__(
        self,
        node: LifecycleNode,
        prior: Intrinsics,
        motion: MotionObserver | None,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: in seconds, never backwards."""
        self.settings = settings
        self.deviation: float | None = None
        self._node = node
        topic = image_topic(node.resolve_topic_name("image"), settings.image_transport)
        camera_name = settings.intrinsics_camera_name or camera_name_of_topic(topic)
        self._store = IntrinsicsStore(intrinsics_directory(settings.intrinsics_directory), camera_name)
        self._camera_info_topic = camera_info_topic(node, topic)
        self._motion = motion
        options = EstimatorOptions(square_pixels=settings.intrinsics_square_pixels)
        self._tracker = IntrinsicsTracker(prior, self._load(), motion, options)
        self._selector = CameraSelector(prior)
        self._clock = clock
        self._looking_since = 0.0
        self._announcements = 0
        self._confirmed: PinholeCamera | None = None
        self._refuted: PinholeCamera | None = None
        self._infos = self._publisher(CameraInfo, "intrinsics")
        self._states = self._publisher(DiagnosticArray, "intrinsics/status")

    def _publisher(self, message_type: type, topic: str) -> LifecyclePublisher:
        overrides = QoSOverridingOptions.with_default_policies()
        qos = QoSProfile(depth=QUEUE)
        return self._node.create_lifecycle_publisher(message_type, topic, qos, qos_overriding_options=overrides)

    def destroy(self) -> None:
        """Take the publishers away, and free the motion model."""
        for publisher in (self._infos, self._states):
            self._node.destroy_lifecycle_publisher(publisher)
        if self._motion:
            self._motion.backend.close()

    def is_wanted(self) -> bool:
        """Whether anybody listens to the learned intrinsics."""
        return any(publisher.get_subscription_count() > 0 for publisher in (self._infos, self._states))

    # In the depth worker

    def camera_of(
        self, calibrated: PinholeCamera | Rectification | None, width: int, height: int, stamp_ns: int
    ) -> SelectedCamera:
        """The camera of an image; calibrated: as camera_info has it, if it has."""
        settings, before = self.settings, self._selector.selected
        selected = self._selector.select(
            settings.intrinsics_source,
            calibrated,
            self._tracker.usable(width, height),
            (width, height),
            stamp_ns,
            settings.intrinsics_max_change,
        )
        if before is None or before.source != selected.source:
            self._announcements += 1
            if self._announcements <= MOST_ANNOUNCEMENTS:
                self._announce(selected)
        return selected

    def publish(self, header: Header, width: int, height: int) -> None:
        """Send the learned intrinsics of an image, with its own header; K is zero as long as they are not known."""
        if self._infos.get_subscription_count() == 0:
            return
        tracked = self._tracker.tracked
        if tracked is not None and tracked.is_usable and (tracked.width, tracked.height) == (width, height):
            self._infos.publish(camera_info_message(tracked.camera, True, header))
        else:
            self._infos.publish(CameraInfo(header=header, width=width, height=height))

    def needs_views(self) -> bool:
        """Whether anybody needs the intrinsics: a subscriber, the points, or the check of a camera_info."""
        settings, selected = self.settings, self._selector.selected
        if self.is_wanted():
            return True
        if selected is not None and selected.source == "camera_info":
            # What bends straight lines is no pinhole camera, and would be taken for another focal length.
            is_pinhole = not selected.pinhole.is_distorted
            return settings.intrinsics_verify and is_pinhole and self._confirmed != selected.pinhole
        return settings.intrinsics_source in ("auto", "learned") and not self._is_resting()

    def _is_resting(self) -> bool:
        """Whether the intrinsics are known well enough for a while."""
        tracked, selected, now = self._tracker.tracked, self._selector.selected, self._clock()
        is_known = tracked is not None and tracked.estimate.state == "converged"
        is_used = selected is not None and selected.source == "learned"
        if not (is_known and is_used) or now >= self._looking_since + LOOK_S + REST_S:
            self._looking_since = now
        return now >= self._looking_since + LOOK_S

    # In the thread of views

    def add(self, view: NetworkView) -> None:
        """Learn from a view, and say what is known now."""
        tracked = self._tracker.add(view)
        self._verify(tracked)
        if self._states.get_subscription_count() > 0:
            stamp = Time(nanoseconds=max(view.stamp_ns, 0)).to_msg()
            header = Header(stamp=stamp, frame_id=view.frame_id)
            self._states.publish(DiagnosticArray(header=header, status=[self._status(tracked)]))

    def _verify(self, tracked: TrackedIntrinsics) -> None:
        selected = self._selector.selected
        if selected is None or selected.source != "camera_info" or not is_comparable(selected, tracked):
            self.deviation = None
            return
        camera = selected.pinhole
        self.deviation = deviation(camera, tracked.estimate)
        logger = self._node.get_logger()
        if abs(self.deviation) <= WRONG_SIGMAS:
            if self._confirmed != camera:
                logger.info(f"{self._camera_info_topic} fits the images: {focal_lengths(camera, tracked)}")
            self._confirmed, self._refuted = camera, None
        elif self._refuted != camera:
            self._refuted, self._confirmed = camera, None
            logger.error(
                f"{self._camera_info_topic} does not fit the images: {focal_lengths(camera, tracked)}, "
                f"{abs(self.deviation):.1f} sigma away; calibrate the camera, or set intrinsics.source to learned"
            )

    # For the executor's thread

    def save(self) -> str:
        """Keep the intrinsics for the next start; the file's path.

        Raises:
            DepthNodeError: they are not known yet, or cannot be written.
        """
        tracked = self._tracker.tracked
        if tracked is None:
            raise DepthNodeError("nothing was learned: no image has been looked at for the intrinsics")
        if tracked.is_rectified:
            raise DepthNodeError("nothing to keep: the images are rectified with a camera_info, which says it all")
        if tracked.estimate.state != "converged":
            raise DepthNodeError(f"the intrinsics are not known yet: {state_sentence(tracked)}")
        stored = StoredIntrinsics(tracked.width, tracked.height, tracked.estimate)
        self._store.save(stored)
        self._tracker.stored = stored
        return str(self._store.path)

    def facts(self) -> dict[str, str]:
        """What /diagnostics says of the intrinsics: keys that begin with `intrinsics_`; none before the first image."""
        selected, tracked = self._selector.selected, self._tracker.tracked
        values = selected_values(selected) if selected else {}
        if tracked is not None:
            values |= tracked_values(tracked, self.deviation)
        return {f"intrinsics_{key}": value for key, value in values.items()}

    @property
    def warning(self) -> str:
        """Why the intrinsics in use are not to be trusted; empty if they are."""
        selected, tracked = self._selector.selected, self._tracker.tracked
        if selected is None:
            return ""
        if selected.source == "prior":
            learning = tracked is not None and self.settings.intrinsics_source in ("auto", "learned")
            progress = f" (learning: {state_sentence(tracked)})" if tracked is not None and learning else ""
            return f"{self._why_prior()}: the intrinsics are the model's prior, the geometry is approximate{progress}"
        if self.deviation is not None and abs(self.deviation) > WRONG_SIGMAS:
            return f"camera_info does not fit the images, by {abs(self.deviation):.1f} standard deviations"
        return distortion_warning(selected, tracked) if tracked is not None else ""

    def _status(self, tracked: TrackedIntrinsics) -> DiagnosticStatus:
        selected = self._selector.selected
        values = {**(selected_values(selected) if selected else {}), **tracked_values(tracked, self.deviation)}
        is_wrong = self.deviation is not None and abs(self.deviation) > WRONG_SIGMAS
        return DiagnosticStatus(
            level=DiagnosticStatus.WARN if is_wrong else DiagnosticStatus.OK,
            name=f"{self._node.get_fully_qualified_name()}: intrinsics",
            message=self.warning if is_wrong else state_sentence(tracked),
            hardware_id=self._store.camera_name,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _load(self) -> StoredIntrinsics | None:
        logger = self._node.get_logger()
        try:
            stored = self._store.load()
        except DepthNodeError as error:
            logger.warning(f"learned intrinsics are not loaded: {error}")
            return None
        if stored is not None:
            size, sigma = f"{stored.width}x{stored.height}", stored.estimate.relative_sigma
            logger.info(f"learned intrinsics of {size} images are loaded from {self._store.path}: known to {sigma:.1%}")
        return stored

    def _why_prior(self, where: str = "") -> str:
        source = self.settings.intrinsics_source
        if source == "prior":
            return "intrinsics.source is prior"
        return "no intrinsics learned yet" if source == "learned" else f"no usable camera_info{where}"

    def _announce(self, selected: SelectedCamera) -> None:
        camera, logger = selected.pinhole, self._node.get_logger()
        numbers = f"fx {camera.fx:.1f}, fy {camera.fy:.1f}, cx {camera.cx:.1f}, cy {camera.cy:.1f}"
        if selected.source == "prior":
            why = self._why_prior(f" on {self._camera_info_topic}")
            logger.warning(
                f"{why}: taking the model's intrinsics prior ({numbers}); the geometry is approximate, and "
                "depth/camera_info says 'uncalibrated'"
            )
        elif selected.source == "learned":
            logger.info(f"intrinsics learned from the images: going from {numbers} to what was learned")
        else:
            rectified = ", images are rectified" if isinstance(selected.camera, Rectification) else ""
            logger.info(f"intrinsics from {self._camera_info_topic}: {numbers}{rectified}")
