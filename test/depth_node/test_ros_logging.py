"""Python's logging in the node's log."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from depth_node.ros_logging import RosLogHandler


def test_records_of_the_package_reach_the_node_at_their_level(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[tuple[str, str]] = []
    levels = ("info", "warning", "error")
    logger = SimpleNamespace(**{level: lambda line, level=level: lines.append((level, line)) for level in levels})
    node: Any = SimpleNamespace(get_logger=lambda: logger)
    handler = RosLogHandler(node)
    logging.getLogger("depth_node.backends").info("auto: %s", "openvino")
    logging.getLogger("depth_node.backends").warning("careful")
    logging.getLogger("depth_node").error("wrong")
    logging.getLogger("depth_node").debug("detail")
    assert not caplog.records  # else they would come twice where a library has set up the root logger
    logging.getLogger("another").error("not ours")
    handler.close()
    logging.getLogger("depth_node").error("too late")
    assert lines == [("info", "auto: openvino"), ("warning", "careful"), ("error", "wrong")]
