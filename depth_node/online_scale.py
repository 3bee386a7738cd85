"""The node's side of metric scale: odometry comes in, the topic `scale` goes out, and what is said of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from std_msgs.msg import Header

from depth_node.errors import OdometryError
from depth_node.frames import NetworkView
from depth_node.inputs import publisher_fault
from depth_node.parameters import Settings
from depth_node.scale import ScaleEstimate, VisualOdometryScale

QUEUE = 5
ODOMETRY_QUEUE = 50  # a second of wheel odometry
TOPIC = "odom"
MODES_WITH_ODOMETRY = ("odometry", "auto")
SILENT_S = 2.0  # wheels and filters say something several times a second, also while standing still


class OnlineScale:
    """Hears odometry while the scale is to be learned from it, and hands views on (a `ViewConsumer`).

    estimate: of the last frame; None before it.
    """

    def __init__(
        self,
        node: LifecycleNode,
        source: VisualOdometryScale,
        settings: Settings,
        report: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """report: told a kind and a sentence of what is wrong with odometry. clock: in seconds, never backwards."""
        self.estimate: ScaleEstimate | None = None
        self._node = node
        self._source = source
        self._settings = settings
        self._report = report
        self._clock = clock
        self._received: float | None = None
        self._subscription: Subscription | None = None
        self._is_listening = self._is_subscribed = False
        self._announced: set[str] = set()
        self._publisher = node.create_lifecycle_publisher(
            DiagnosticArray,
            "scale",
            QoSProfile(depth=QUEUE),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def destroy(self) -> None:
        """Take the publisher away."""
        self._node.destroy_lifecycle_publisher(self._publisher)

    # In the executor's thread

    def listen(self, is_listening: bool) -> None:
        """Hear odometry from now on, where the settings ask for it, or no more."""
        self.estimate = None
        self._is_listening = is_listening
        self.apply(self._settings)

    def apply(self, settings: Settings) -> None:
        """Other settings."""
        self._settings = settings
        is_wanted = self._is_listening and settings.scale_mode in MODES_WITH_ODOMETRY
        if is_wanted == self._is_subscribed:
            return
        # First, since a subscription declares its QoS as parameters, and new parameters bring us here again.
        self._is_subscribed = is_wanted
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription, self._received = None, None
            self._source.odometry.clear()
        if is_wanted:
            # On demand: most nodes need no odometry, and its messages are slow to import.
            from depth_node.odometry_messages import MESSAGE_TYPES

            self._subscription = self._node.create_subscription(
                MESSAGE_TYPES[settings.scale_odometry_type],
                TOPIC,
                self._receive,
                QoSProfile(depth=ODOMETRY_QUEUE, reliability=ReliabilityPolicy.BEST_EFFORT),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

    def _receive(self, message: Any) -> None:
        from depth_node.odometry_messages import add_odometry

        try:
            add_odometry(self._source.odometry, message)
        except OdometryError as error:
            self._report("odometry", str(error))
        else:
            self._received = self._clock()

    def silence(self) -> str:
        """Why there is no odometry: it has stopped, or the scale depends on it and it never came. Else empty.

        Where it never came, that is most often for a topic's name or type.
        """
        if self._subscription is None:
            return ""
        if self._received is not None:
            seconds = self._clock() - self._received
            return f"no odometry on {self._subscription.topic_name} for {seconds:.0f} s" if seconds > SILENT_S else ""
        if self._settings.scale_mode != "odometry":
            return ""
        fault = publisher_fault(self._node, self._subscription, "set scale.odometry_type")
        return fault or f"no odometry comes in on {self._subscription.topic_name}"

    # In the depth worker

    def is_wanted(self) -> bool:
        """Whether anybody listens to the scale."""
        return bool(self._publisher.get_subscription_count() > 0)

    def announce(self, estimate: ScaleEstimate) -> None:
        """The scale of a frame; logged where it is of a source that was not, before."""
        self.estimate = estimate
        if estimate.source in self._announced:
            return
        self._announced.add(estimate.source)
        logger = self._node.get_logger()
        # Two lines: rclpy refuses a severity that changes within one.
        if estimate.is_known:
            logger.info(f"metric scale from {estimate.source}: the model's depth times {estimate.factor:.3f}")
        else:
            logger.warning(f"depth is up to scale, not in metres: {estimate.reason} (see scale.mode)")

    def publish(self, estimate: ScaleEstimate, header: Header) -> None:
        """The scale of a frame, with the header of its image."""
        if self.is_wanted():
            name = f"{self._node.get_fully_qualified_name()}: scale"
            self._publisher.publish(DiagnosticArray(header=header, status=[scale_status(estimate, name)]))

    def needs_views(self) -> bool:
        """Whether there is odometry to compare images with, and anything to learn from that."""
        return self._settings.scale_mode in MODES_WITH_ODOMETRY and self._source.needs_images()

    # In the thread of views

    def add(self, view: NetworkView) -> None:
        """Learn from a view."""
        self._source.add(view.image, view.inverse_depth, view.camera, view.stamp_ns)


def scale_status(estimate: ScaleEstimate, name: str) -> DiagnosticStatus:
    """What the topic `scale` says: a warning, and a factor of 1, as long as depth is up to scale."""
    is_good = estimate.is_known and not estimate.warning
    sigma = estimate.relative_sigma
    if estimate.is_known:
        message = estimate.warning or f"metric, from {estimate.source}"
    else:
        message = f"up to scale: {estimate.reason}"
    values = {
        "factor": f"{estimate.factor:.6g}",
        "relative_sigma": f"{sigma:.4f}",
        "source": estimate.source,
        "reason": estimate.reason,
    }
    return DiagnosticStatus(
        level=DiagnosticStatus.OK if is_good else DiagnosticStatus.WARN,
        name=name,
        message=message,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
