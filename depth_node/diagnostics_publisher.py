"""One status of a node on /diagnostics: through diagnostic_updater where it is installed, the same messages without."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header

from depth_node.errors import ParameterError

TOPIC = "/diagnostics"  # absolute, as diagnostic_aggregator listens there whatever the node's namespace
QUEUE = 1
# The parameters of diagnostic_updater, which it declares itself.
PERIOD, PERIOD_S = "diagnostic_updater.period", 1.0
USE_FULL_NAME = "diagnostic_updater.use_fqn"
_DESCRIPTIONS = {
    PERIOD: "Time between two messages on /diagnostics [s]",
    USE_FULL_NAME: "Name the node on /diagnostics with its namespace",
}


class DiagnosticsPublisher:
    """Publishes a status every `diagnostic_updater.period` seconds, also while simulated time stands still.

    Each message holds one DiagnosticStatus, named `NODE: TASK`, and the node's time. NODE is the fully qualified name,
    as robots differ by namespace, or with `diagnostic_updater.use_fqn` false the bare name.

    Args:
        status: makes the status, named after the task alone; called in the node's executor.

    Raises:
        ParameterError: the period is not positive.
    """

    def __init__(self, node: Node, status: Callable[[], DiagnosticStatus]) -> None:
        uses_full_name = node.declare_parameter(USE_FULL_NAME, True).value
        node_name = node.get_fully_qualified_name() if uses_full_name else node.get_name()
        self._publish = _by_diagnostic_updater(node, node_name, status) or _by_ourselves(node, node_name, status)
        period = node.get_parameter(PERIOD).value
        if not period > 0:
            raise ParameterError(f"{PERIOD} is {period}; expected seconds, more than 0")
        node.create_timer(period, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))
        for name, description in _DESCRIPTIONS.items():
            described = ParameterDescriptor(
                type=node.describe_parameter(name).type, description=description, read_only=True
            )
            node.set_descriptor(name, described)

    def publish(self) -> None:
        """Publish the status of this moment."""
        self._publish()


def _by_diagnostic_updater(
    node: Node, node_name: str, status: Callable[[], DiagnosticStatus]
) -> Callable[[], None] | None:
    try:
        from diagnostic_updater import Updater
    except ImportError:
        return None
    updater = Updater(node, PERIOD_S)
    node.destroy_timer(updater.timer)  # it counts the node's time, which may be simulated
    updater.node_name = node_name  # its own has two slashes at the front in the root namespace
    updater.setHardwareID("none")  # or it warns until the status brings one
    updater.addedTaskCallback = lambda task: None  # it would publish a status without values
    updater.add("", lambda _: status())
    publish: Callable[[], None] = updater.force_update
    return publish


def _by_ourselves(node: Node, node_name: str, status: Callable[[], DiagnosticStatus]) -> Callable[[], None]:
    node.declare_parameter(PERIOD, PERIOD_S)
    publisher = node.create_publisher(DiagnosticArray, TOPIC, QUEUE)

    def publish() -> None:
        entry = status()
        entry.name = f"{node_name}: {entry.name}"
        publisher.publish(DiagnosticArray(header=Header(stamp=node.get_clock().now().to_msg()), status=[entry]))

    return publish
