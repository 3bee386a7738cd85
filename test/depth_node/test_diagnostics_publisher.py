"""The same messages on /diagnostics with and without diagnostic_updater, also while simulated time stands still."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter

from depth_node.diagnostics_publisher import DiagnosticsPublisher
from depth_node.errors import ParameterError

HAS_UPDATER = importlib.util.find_spec("diagnostic_updater") is not None
NAMES = ["diagnostic_updater.period", "diagnostic_updater.use_fqn"]

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def status() -> DiagnosticStatus:
    values = [KeyValue(key="state", value="active"), KeyValue(key="frames_in", value="3")]
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN, name="depth", message="no camera_info", hardware_id="CPU", values=values
    )


@pytest.fixture(params=["diagnostic_updater", "ourselves"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return choose_way(request.param, monkeypatch)


def choose_way(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    if name == "ourselves":
        monkeypatch.setitem(sys.modules, "diagnostic_updater", None)  # importing it fails
    elif not HAS_UPDATER:
        pytest.skip("diagnostic_updater is not installed")
    return name


@contextmanager
def publishing(
    status: Callable[[], DiagnosticStatus] = status, namespace: str = "/robot", **parameters: Any
) -> Iterator[tuple[Node, DiagnosticsPublisher, Callable[..., list[DiagnosticArray]]]]:
    """A node, its publisher, and a function that spins until so many messages have come, doing something meanwhile."""
    context = rclpy.Context()
    rclpy.init(context=context)
    overrides = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
    node = LifecycleNode("camera", namespace=namespace, context=context, parameter_overrides=overrides)
    reader = Node("reader", context=context)
    executor = SingleThreadedExecutor(context=context)
    received: list[DiagnosticArray] = []

    def receive(count: int, meanwhile: Callable[[], None] = lambda: None) -> list[DiagnosticArray]:
        deadline = time.monotonic() + 10
        while len(received) < count:
            assert time.monotonic() < deadline, f"{len(received)} of {count} messages in 10 s"
            meanwhile()
            executor.spin_once(0.05)
        return received

    try:
        publisher = DiagnosticsPublisher(node, status)
        reader.create_subscription(DiagnosticArray, "/diagnostics", received.append, 10)
        executor.add_node(node)
        executor.add_node(reader)
        yield node, publisher, receive
    finally:
        executor.shutdown()
        node.destroy_node()
        reader.destroy_node()
        context.shutdown()


QUICKLY = {"diagnostic_updater__period": 0.02}


def test_the_whole_message(way: str) -> None:
    with publishing(use_sim_time=True, **QUICKLY) as (_, _, receive):
        expected = status()
        expected.name = "/robot/camera: depth"
        assert receive(3)[2] == DiagnosticArray(status=[expected])  # the stamp is zero, as simulated time stands still


def test_both_ways_say_the_same() -> None:
    said = []
    for name in ("diagnostic_updater", "ourselves"):
        with pytest.MonkeyPatch.context() as patch:
            choose_way(name, patch)
            with publishing(use_sim_time=True, **QUICKLY) as (node, _, receive):
                message = receive(1)[0]
                parameters = [(p.name, p.value) for p in node.get_parameters(NAMES)]
                (endpoint,) = node.get_publishers_info_by_topic("/diagnostics")
                qos = endpoint.qos_profile
                policies = (qos.reliability, qos.durability, qos.history, qos.depth)
                said.append((message, parameters, node.describe_parameters(NAMES), policies))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("namespace", "use_fqn", "expected"),
    [("/", True, "/camera: depth"), ("/", False, "camera: depth"), ("/robot", False, "camera: depth")],
)
def test_the_node_s_name(way: str, namespace: str, use_fqn: bool, expected: str) -> None:
    with publishing(namespace=namespace, diagnostic_updater__use_fqn=use_fqn, **QUICKLY) as (_, _, receive):
        assert receive(1)[0].status[0].name == expected


def test_it_comes_once_a_second_of_real_time(way: str) -> None:
    times = []

    def timed() -> DiagnosticStatus:
        times.append(time.monotonic())
        return status()

    with publishing(timed, use_sim_time=True) as (_, _, receive):
        receive(2)
    assert times[1] - times[0] == pytest.approx(1.0, abs=0.1)


def test_it_can_be_published_at_once(way: str) -> None:
    with publishing(diagnostic_updater__period=1e6) as (_, publisher, receive):
        stamp = receive(1, publisher.publish)[0].header.stamp
        assert stamp.sec + stamp.nanosec * 1e-9 == pytest.approx(time.time(), abs=15)


def test_nothing_comes_before_the_status_is_complete(way: str) -> None:
    """diagnostic_updater's own greeting has no values, which readers would stumble over."""
    published = []
    publish = rclpy.publisher.Publisher.publish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rclpy.publisher.Publisher, "publish", lambda self, m: published.append(m) or publish(self, m))
        with publishing(**QUICKLY) as (_, _, receive):
            receive(1)
    arrays = [message for message in published if isinstance(message, DiagnosticArray)]
    assert len(arrays) >= 1
    assert all(array.status[0].values for array in arrays)


def test_its_parameters_cannot_be_changed_without_effect(way: str) -> None:
    with publishing() as (node, _, _):
        for result in node.set_parameters([Parameter(NAMES[0], value=2.0), Parameter(NAMES[1], value=False)]):
            assert not result.successful
            assert "read-only" in result.reason


def test_a_period_of_nothing_is_refused(way: str) -> None:
    with (
        pytest.raises(ParameterError, match=r"diagnostic_updater.period is 0.0; expected seconds, more than 0"),
        publishing(diagnostic_updater__period=0.0),
    ):
        pass
