"""A real node through many changes of parameters and of state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image

from node_harness import OUTPUTS, Client, NodeProcess, depth_of, expected_depth, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")

DEPTH = expected_depth(100)
# Allocators give and take a few megabytes; one frame of 1.5 MB left behind in each of 40 cycles would be 60.
GROWTH_MB = 6.0


def test_200_parameter_changes_while_running(running: tuple[NodeProcess, Client]) -> None:
    """Every result is of one setting or another, never of a mixture; the last setting holds."""
    process, client = running
    client.subscribe(*OUTPUTS)
    client.send_until_answered("points", lambda: grey_image(client.header()))
    changes: list[tuple[str, Any, bool]] = [
        ("max_range", DEPTH - 0.5, True),
        ("cloud.stride", 3, True),
        ("color.map", "viridis", True),
        ("color.map", "jet", False),
        ("max_range", DEPTH + 0.5, True),
        ("cloud.stride", 0, False),
        ("cloud.stride", 2, True),
        ("model", "other.onnx", False),
    ]
    for number in range(200):
        name, value, is_possible = changes[number % len(changes)]
        client.send(grey_image(client.header()))
        assert client.set_parameter(name, value).successful == is_possible
    for result in client.received["depth/image"]:
        depth = depth_of(result)
        assert np.isnan(depth).all() or np.allclose(depth, DEPTH, rtol=1e-5)
    assert {cloud.width for cloud in client.received["points"]} == {32, 22}
    assert len({bool(np.isnan(depth_of(result)).all()) for result in client.received["depth/image"]}) == 2
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    np.testing.assert_allclose(depth_of(result), DEPTH, rtol=1e-5)
    assert "Traceback" not in process.log
    client.unsubscribe(*OUTPUTS)


@dataclass(frozen=True)
class Resources:
    """Of a process."""

    resident_mb: float
    threads: int
    descriptors: int


def resources_of(process: NodeProcess) -> Resources:
    folder = Path(f"/proc/{process.process.pid}")
    threads, descriptors = (sum(1 for _ in (folder / name).iterdir()) for name in ("task", "fd"))
    return Resources(process.resident_mb, threads, descriptors)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ([Transition.TRANSITION_DEACTIVATE], [Transition.TRANSITION_ACTIVATE]),
        (
            [Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP],
            [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE],
        ),
    ],
    ids=["deactivate, activate", "cleanup, configure"],
)
def test_50_cycles_leave_nothing_behind(running: tuple[NodeProcess, Client], down: list[int], up: list[int]) -> None:
    """The growth after the first ten cycles, in which libraries and allocators fill their pools."""
    process, client = running
    client.subscribe("depth/image")

    def large_image() -> Image:
        return grey_image(client.header(), width=640, height=480)

    used = []
    for _ in range(50):
        _, result = client.send_until_answered("depth/image", large_image)
        for transition in (*down, *up):
            client.send(large_image())
            assert client.transition(transition)
        used.append(resources_of(process))
    np.testing.assert_allclose(depth_of(result), DEPTH, rtol=1e-5)
    early, late = used[5:10], used[-5:]
    print(early, late)
    assert max(r.threads for r in late) <= max(r.threads for r in early)
    assert max(r.descriptors for r in late) <= max(r.descriptors for r in early)
    assert median(r.resident_mb for r in late) - median(r.resident_mb for r in early) < GROWTH_MB
    client.unsubscribe("depth/image")
