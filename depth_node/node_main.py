"""The node's process: command line, signals, executor. `ros2 run depth_node depth_node` runs this."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from depth_node.errors import ParameterError
from depth_node.memory import keep_freed_memory
from depth_node.transport import use_shipped_fastdds_profile

SIGNAL_PERIOD_S = 0.1  # Python sees a signal only between two waits of the executor


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="depth_node",
        description="Depth images and point clouds from one camera, as a ROS 2 lifecycle node.",
        epilog="Parameters: --ros-args -p NAME:=VALUE. Topics: --ros-args -r image:=TOPIC -r camera_info:=TOPIC.",
    )
    parser.parse_args(remove_ros_args(arguments))
    # Read once, when numpy is loaded: threads for small matrices would only get in the way of the inference's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from depth_node.node import DepthNode

    is_stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_stopped.set())
    keep_freed_memory()
    use_shipped_fastdds_profile()
    # rclpy's own handlers would shut ROS down under whatever the worker is publishing.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = DepthNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not is_stopped.is_set():
            executor.spin_once(SIGNAL_PERIOD_S)
        node.destroy_node()
    except (ParameterError, ParameterException) as error:
        print(f"depth_node: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
