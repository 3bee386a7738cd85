"""Play a bag's topics with their original stamps, at the speed at which they were recorded.

ROS arguments go last: `replay drive.mcap --ros-args -r /camera/image_raw:=image`. With --loop every turn has the
original stamps again, so time (and with --clock /clock) jumps back where a turn begins, which tf2 takes as a restart.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from rclpy.utilities import remove_ros_args
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rosgraph_msgs.msg import Clock

from depth_node.bags import IMAGE_TYPES, Bag, open_bag
from depth_node.errors import BagError, DepthNodeError
from depth_node.transport import use_shipped_fastdds_profile

DEFAULT_TYPES = (*IMAGE_TYPES, "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage", "nav_msgs/msg/Odometry")
CLOCK_PERIOD = 0.025  # seconds; as `ros2 bag play --clock`
SETTLING_TIME = 0.5  # seconds; a subscriber's topics are discovered one after the other

logger = logging.getLogger("replay")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when the bag was played to its end, or until Ctrl-C, which is how a loop ends.

    Raises:
        DepthNodeError: the bag cannot be read, lacks a topic, or nobody subscribed in time.
    """
    arguments = parse_arguments(remove_ros_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    with suppress(KeyboardInterrupt), open_bag(arguments.bag) as bag, ros_node(argv) as node:
        publishers = create_publishers(node, bag, arguments.topic)
        clock = node.create_publisher(Clock, "/clock", 10) if arguments.clock else None
        if arguments.wait_for_subscribers is not None:
            types = bag.topics()
            images = [publisher for topic, publisher in publishers.items() if types[topic] in IMAGE_TYPES]
            wait_for_subscribers(images or list(publishers.values()), arguments.wait_for_subscribers)
        while True:
            play(bag, publishers, arguments.rate, clock)
            if not arguments.loop:
                break
        for publisher in publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=2))
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line without its ROS arguments."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="replay", description=summary, epilog=details)
    parser.add_argument("bag", type=Path, help="mcap or db3 file, bag directory, or ROS 1 .bag")
    parser.add_argument(
        "--topic",
        action="append",
        metavar="T",
        help="topic to play; repeat for more (default: all images, camera_info, tf and odometry)",
    )
    parser.add_argument("--rate", type=_positive, default=1.0, metavar="R", help="speed factor (default: 1)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until interrupted")
    parser.add_argument("--clock", action="store_true", help="publish the bag's time on /clock")
    parser.add_argument(
        "--wait-for-subscribers",
        nargs="?",
        type=_positive,
        const=60.0,
        metavar="SECONDS",
        help="begin when every image topic has a subscriber; give up after SECONDS (default: 60)",
    )
    return parser.parse_args(argv)


@contextmanager
def ros_node(argv: list[str] | None) -> Iterator[Node]:
    """A node of its own context. Ctrl-C raises KeyboardInterrupt as in any Python program."""
    use_shipped_fastdds_profile()
    context = rclpy.Context()
    rclpy.init(args=argv, context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Node("replay", context=context, enable_rosout=False, start_parameter_services=False)
    try:
        yield node
    finally:
        node.destroy_node()
        context.shutdown()


def create_publishers(node: Node, bag: Bag, topics: Sequence[str] | None) -> dict[str, Publisher]:
    """Publishers of the named topics, or by default of all whose types are in DEFAULT_TYPES and installed here.

    Raises:
        BagError: a topic is not in the bag, or none is left to play.
        DepthNodeError: the package of a named topic's messages is not installed.
    """
    types = bag.topics()
    if topics is not None:
        bag.message_count(topics)  # names the topics that are missing
    publishers = {}
    for topic, type_name in types.items():
        chosen = topic in topics if topics is not None else type_name in DEFAULT_TYPES
        if not chosen:
            continue
        try:
            publishers[topic] = node.create_publisher(message_class(type_name), topic, qos_profile(type_name, topic))
        except ModuleNotFoundError as error:
            if topics is not None:
                raise DepthNodeError(f"{topic} is of type {type_name}, and {error.name} is not installed") from error
            logger.warning("%s is left out: %s is not installed", topic, error.name)
    if not publishers:
        raise BagError(f"bag {bag.path} has nothing to play; its topics: {', '.join(sorted(types)) or 'none'}")
    return publishers


def message_class(type_name: str) -> Any:
    """Class of a type such as `sensor_msgs/msg/Image`."""
    package, _, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def qos_profile(type_name: str, topic: str) -> QoSProfile:
    """Reliable, which serves best-effort subscribers, too; short queues for images; tf_static kept for latecomers."""
    if topic.endswith("tf_static"):
        return QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=5 if type_name in IMAGE_TYPES else 100)


def wait_for_subscribers(publishers: Sequence[Publisher], seconds: float) -> None:
    """Return when each publisher has a subscriber.

    Raises:
        DepthNodeError: one has none after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while lonely := [publisher.topic_name for publisher in publishers if publisher.get_subscription_count() == 0]:
        if time.monotonic() > deadline:
            raise DepthNodeError(f"nobody subscribed to {', '.join(lonely)} within {seconds:g} s")
        time.sleep(0.05)
    time.sleep(SETTLING_TIME)


def play(bag: Bag, publishers: Mapping[str, Publisher], rate: float, clock: Publisher | None) -> None:
    """Publish the bag once, each message at its time of recording, `rate` times as fast."""
    topics = list(publishers)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(bag.path.name, total=bag.message_count(topics))
        first_ns: int | None = None
        worst_delay = 0.0
        for topic, time_ns, data in bag.serialized(topics):
            if first_ns is None:
                first_ns, started = time_ns, time.monotonic()
            due = started + (time_ns - first_ns) * 1e-9 / rate
            while (remaining := due - time.monotonic()) > 0:
                time.sleep(min(remaining, CLOCK_PERIOD) if clock else remaining)
                if clock:
                    _publish_clock(clock, time_ns - max(0, round((due - time.monotonic()) * 1e9 * rate)))
            worst_delay = max(worst_delay, -remaining)
            publishers[topic].publish(data)
            progress.advance(task)
    if worst_delay > 0.1:
        logger.warning("publishing fell behind by up to %.0f ms; a lower --rate avoids that", worst_delay * 1e3)


def _publish_clock(clock: Publisher, time_ns: int) -> None:
    clock.publish(Clock(clock=Time(nanoseconds=time_ns).to_msg()))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
