"""How many images of a camera arrive in another process, and when: Fast DDS as installed and with config/fastdds.xml.

A sender and a receiver, both of this benchmark's own and without any other work, so what is lost is the middleware's.
`latency` is p50 / p95 in milliseconds, from before an image is sent until it is there, serialized.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from common import report, smooth_image
from node_process import read_stamp, write_stamp
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depth_node.images import color_image_message
from depth_node.tools.isolation import isolated_environment
from depth_node.transport import PROFILE_VARIABLES

PROFILES = ("as installed", "config/fastdds.xml")
RELIABILITIES = (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE)
PATIENCE_S = 10.0
LAST_ARRIVAL_S = 2.0


@dataclass(frozen=True)
class Stream:
    """Images of one size in pixels at a fixed rate in Hz."""

    width: int
    height: int
    rate: float
    images: int
    reliability: ReliabilityPolicy
    depth: int

    @property
    def qos(self) -> QoSProfile:
        """Of both sides."""
        return QoSProfile(depth=self.depth, reliability=self.reliability)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(1242, 375), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rate", type=float, default=10.0, help="images per second")
    parser.add_argument("--images", type=int, default=150, help="per row")
    parser.add_argument("--depth", type=int, default=5, help="queue of the sender and of the receiver")
    arguments = parser.parse_args()
    rows = []
    for profile in PROFILES:
        for reliability in RELIABILITIES:
            stream = Stream(*arguments.size, arguments.rate, arguments.images, reliability, arguments.depth)
            rows.append({"fast_dds": profile, **measure(profile, stream)})
    size = {"width": arguments.size[0], "height": arguments.size[1], "bytes": 3 * arguments.size[0] * arguments.size[1]}
    report("transport", rows, **size, rate=arguments.rate, depth=arguments.depth)
    return 0


def measure(profile: str, stream: Stream) -> dict[str, Any]:
    """One row."""
    environment = isolated_environment()
    if profile == PROFILES[0]:
        environment = {name: value for name, value in environment.items() if name not in PROFILE_VARIABLES}
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        latencies = pool.submit(receive, environment, stream)
        pool.submit(send, environment, stream).result()
        seconds = latencies.result()
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3 if seconds else (np.nan, np.nan)
    return {
        "reliability": stream.reliability.name.lower().replace("_", " "),
        "sent": stream.images,
        "arrived": len(seconds),
        "arrived_percent": 100 * len(seconds) / stream.images,
        "latency": (float(p50), float(p95)) if seconds else None,
    }


def send(environment: Mapping[str, str], stream: Stream) -> None:
    """Publish all images, stamped with the steady clock, which all processes of a machine share."""
    with ros_node(environment) as node:
        publisher = node.create_publisher(Image, "image", stream.qos)
        until = time.monotonic() + PATIENCE_S
        while not publisher.get_subscription_count() and time.monotonic() < until:
            time.sleep(0.02)
        image = color_image_message(smooth_image(stream.width, stream.height)[0], Header(frame_id="camera"))
        serialized = bytearray(serialize_message(image))
        started = time.monotonic()
        for number in range(stream.images):
            time.sleep(max(0.0, started + number / stream.rate - time.monotonic()))
            write_stamp(serialized, time.monotonic_ns())
            publisher.publish(bytes(serialized))
        time.sleep(LAST_ARRIVAL_S)


def receive(environment: Mapping[str, str], stream: Stream) -> list[float]:
    """Seconds that each image took that arrived."""
    seconds: list[float] = []
    with ros_node(environment) as node:
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)

        def keep(serialized: bytes) -> None:
            seconds.append((time.monotonic_ns() - read_stamp(serialized)) * 1e-9)

        node.create_subscription(Image, "image", keep, stream.qos, raw=True)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if node.count_publishers("image"):  # and once the last is gone, patience ends
                until = time.monotonic() + LAST_ARRIVAL_S
            executor.spin_once(0.1)
        executor.shutdown()
    return seconds


@contextmanager
def ros_node(environment: Mapping[str, str]) -> Iterator[Node]:
    """A node of this process, with `environment` and no other Fast DDS profile than one in there."""
    for name in PROFILE_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(environment)
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("transport", context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        context.shutdown()


if __name__ == "__main__":
    sys.exit(main())
