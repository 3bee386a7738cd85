"""Who is shown which frames, and that nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from depth_node.camera import PinholeCamera
from depth_node.errors import BackendError, DepthNodeError
from depth_node.frames import NetworkView
from depth_node.view_thread import ViewThread

TIMEOUT_S = 10.0


def view(stamp_ns: int = 0) -> NetworkView:
    camera = PinholeCamera(4, 4, 4.0, 4.0, 2.0, 2.0)
    return NetworkView(stamp_ns, "camera", np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32), camera)


class Consumer:
    """Keeps stamps; its work lasts until `may_go_on`."""

    def __init__(self, needs: bool = True, fails: Exception | None = None) -> None:
        self.needs, self.fails = needs, fails
        self.stamps: list[int] = []
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def needs_views(self) -> bool:
        return self.needs

    def add(self, view: NetworkView) -> None:
        self.has_begun.set()
        assert self.may_go_on.wait(TIMEOUT_S)
        if self.fails is not None:
            raise self.fails
        self.stamps.append(view.stamp_ns)


@contextmanager
def running(*consumers: Consumer) -> Iterator[tuple[ViewThread, list[tuple[str, str]]]]:
    reports: list[tuple[str, str]] = []
    thread = ViewThread(consumers, lambda kind, reason: reports.append((kind, reason)))
    try:
        yield thread, reports
    finally:
        thread.stop()


def test_those_who_need_a_view_get_it() -> None:
    one, other, none = Consumer(), Consumer(), Consumer(needs=False)
    with running(one, other, none) as (thread, _):
        assert thread.wants(0.0, 0.0)
        thread.show(view(7))
        assert one.has_begun.wait(TIMEOUT_S)
    assert (one.stamps, other.stamps, none.stamps) == ([7], [7], [])


def test_nothing_is_wanted_while_nobody_needs_it() -> None:
    consumer = Consumer(needs=False)
    with running(consumer) as (thread, _):
        assert not thread.wants(0.0, 0.0)
        consumer.needs = True
        assert thread.wants(0.0, 0.0)


def test_nothing_is_wanted_while_one_is_at_work() -> None:
    consumer = Consumer()
    consumer.may_go_on.clear()
    with running(consumer) as (thread, _):
        thread.show(view(1))
        assert consumer.has_begun.wait(TIMEOUT_S)
        assert not thread.wants(1e6, 0.0)
        consumer.may_go_on.set()
    assert consumer.stamps == [1]
    assert thread.wants(1e6, 0.0)


@pytest.mark.parametrize(("rate", "expected"), [(5.0, 50), (2.0, 20), (0.0, 100)])
def test_the_rate_is_kept(rate: float, expected: int) -> None:
    with running(Consumer()) as (thread, _):
        wanted = sum(thread.wants(number / 10, rate) for number in range(100))  # 10 Hz
    assert abs(wanted - expected) <= 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("of the consumer"), ("views", "ValueError: of the consumer")),
        (BackendError("no device"), ("BackendError", "no device")),  # no traceback of what is foreseen
    ],
)
def test_who_fails_is_reported_and_holds_up_nobody(error: Exception, expected: tuple[str, str]) -> None:
    failing, other = Consumer(fails=error), Consumer()
    with running(failing, other) as (thread, reports):
        thread.show(view(1))
        assert failing.has_begun.wait(TIMEOUT_S)
    assert other.stamps == [1]
    ((kind, message),) = reports
    assert kind == expected[0]
    assert message.endswith(expected[1] if isinstance(error, DepthNodeError) else f"{expected[1]}\n")
    assert ("Traceback" in message) != isinstance(error, DepthNodeError)
