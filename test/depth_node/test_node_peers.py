"""A real node among other processes: QoS of both sides, publishers that die, subscribers that stall."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from node_harness import BEST_EFFORT, RELIABLE, Client, NodeProcess, PeerProcess, depth_of, expected_depth, grey_image
from node_harness import kill as kill_process

pytestmark = pytest.mark.usefixtures("private_ros_domain")


@pytest.fixture
def start_peer(tmp_path: Path) -> Iterator[Callable[..., PeerProcess]]:
    peers: list[PeerProcess] = []

    def started(role: str, node: NodeProcess, **options: Any) -> PeerProcess:
        peers.append(PeerProcess(tmp_path / f"peer{len(peers)}", role, node.namespace, **options))
        return peers[-1]

    yield started
    for peer in peers:
        kill_process(peer.process)


@pytest.mark.parametrize("publisher_qos", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
@pytest.mark.parametrize("subscriber_qos", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_peers_of_any_reliability(
    running: tuple[NodeProcess, Client], publisher_qos: QoSProfile, subscriber_qos: QoSProfile
) -> None:
    _, client = running
    images = client.publisher("image", Image, publisher_qos)
    client.subscribe("depth/image", qos=subscriber_qos)
    before = len(client.received["depth/image"])

    def answered() -> bool:
        images.publish(grey_image(client.header(), 150, width=320, height=240))
        client.spin(0.1)
        return len(client.received["depth/image"]) > before

    client.wait(answered)
    np.testing.assert_allclose(depth_of(client.received["depth/image"][-1]), expected_depth(150), rtol=1e-5)
    client.unsubscribe("depth/image")
    client.node.destroy_publisher(images)


def test_publisher_that_is_killed_and_restarted(
    running: tuple[NodeProcess, Client], start_peer: Callable[..., PeerProcess]
) -> None:
    process, client = running
    client.subscribe("depth/image")
    received = client.received["depth/image"]
    for grey in (60, 180):
        publisher = start_peer("publish", process, grey=grey)
        frame = expected_depth(grey)
        client.wait(lambda d=frame: received and np.allclose(depth_of(received[-1]), d, rtol=1e-5))
        before = len(received)
        client.wait(lambda n=before: len(received) > n + 5)
        publisher.process.kill()
        publisher.process.wait()
        client.spin(0.3)
        silent = len(received)
        client.spin(0.5)
        assert len(received) == silent
    assert "lost" not in process.log
    assert "Traceback" not in process.log
    client.unsubscribe("depth/image")


def test_subscriber_that_stalls_holds_nobody_up(
    running: tuple[NodeProcess, Client], start_peer: Callable[..., PeerProcess]
) -> None:
    """A reliable one, stopped for longer than its queue and the shared memory hold images."""
    process, client = running
    staller = start_peer("subscribe", process)
    client.subscribe("depth/image")
    received = client.received["depth/image"]

    def send() -> None:
        client.send(grey_image(client.header(), width=640, height=480))

    client.wait(lambda: (send(), client.spin(0.03), staller.messages > 3)[-1])
    client.spin(0.2)
    staller.process.send_signal(signal.SIGSTOP)
    before, longest, last = len(received), 0.0, time.monotonic()
    for _ in range(100):  # 120 MB of depth
        send()
        expected = len(received) + 1
        client.wait_for_at_most(1.2, lambda n=expected: len(received) >= n)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert len(received) - before >= 95
    # A process that is stopped within a lock of the shared memory holds Fast DDS up once, for a second.
    assert longest < 1.5
    staller.process.send_signal(signal.SIGCONT)
    seen = staller.messages
    client.wait(lambda: (send(), client.spin(0.03), staller.messages > seen + 10)[-1])
    client.unsubscribe("depth/image")
