"""What the package's own modules log, in the node's log: modules that know no ROS use Python's logging."""

from __future__ import annotations

import logging

from rclpy.node import Node


class RosLogHandler(logging.Handler):
    """Passes records of the package `depth_node` on to a node's logger, until it is closed."""

    def __init__(self, node: Node) -> None:
        super().__init__(logging.INFO)
        self._ros_logger = node.get_logger()
        self._package = logging.getLogger("depth_node")
        self._before = self._package.level, self._package.propagate
        self._package.setLevel(logging.INFO)
        self._package.propagate = False  # or a library that sets up the root logger has every line twice
        self._package.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One line per level, since rclpy refuses another level from the same line."""
        message = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._ros_logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._ros_logger.warning(message)
        else:
            self._ros_logger.info(message)

    def close(self) -> None:
        """Leave the package's logger as it was."""
        self._package.removeHandler(self)
        level, self._package.propagate = self._before
        self._package.setLevel(level)
        super().close()
