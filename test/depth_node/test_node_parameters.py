"""Parameters of a real node, set over ROS services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from node_harness import Client, NodeProcess, expected_depth, grey_image

pytestmark = pytest.mark.usefixtures("private_ros_domain")


def test_live_parameters(running: tuple[NodeProcess, Client]) -> None:
    _, client = running
    client.subscribe("depth/image")
    depth = expected_depth(100)
    assert client.set_parameter("min_range", depth + 0.5).successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert np.isnan(np.frombuffer(result.data, np.float32)).all()
    assert client.set_parameter("min_range", 0.0).successful
    assert client.set_parameter("max_range", depth - 0.5).successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert np.isnan(np.frombuffer(result.data, np.float32)).all()
    assert client.set_parameter("max_range", depth + 0.5).successful
    _, result = client.send_until_answered("depth/image", lambda: grey_image(client.header()))
    assert np.isfinite(np.frombuffer(result.data, np.float32)).all()
    client.unsubscribe("depth/image")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("color.map", "jet", "expected one of: turbo"),
        ("cloud.stride", 0, "out of range"),
        ("color.min_depth", 1000.0, "color.min_depth is 1000.0 and color.max_depth is 80.0"),
        ("model", "other.onnx", "while unconfigured"),
        ("autostart", False, "read-only"),
        ("cloud.stride", "two", "type"),
    ],
)
def test_impossible_parameter_is_refused(running: tuple[NodeProcess, Client], name: str, value: Any, said: str) -> None:
    result = running[1].set_parameter(name, value)
    assert not result.successful
    assert said in result.reason


def test_bad_parameter_ends_the_start_with_a_sentence(start: Callable[..., Any]) -> None:
    with start(color_map="jet") as (process, _):
        assert process.process.wait(20) == 2
        assert "color.map is 'jet'; expected one of" in process.log
        assert "Traceback" not in process.log
