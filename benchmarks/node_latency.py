"""What the depth node adds to bare inference, stage by stage, through real DDS between processes.

The node runs as its own process; this one publishes images at a fixed rate and takes the results, undecoded. Each row
has another set of topics subscribed. Stage medians and latency are the node's own (/diagnostics, image receipt to last
publication); `end_to_end` is from before this process publishes an image until it has the last result of it.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from common import report
from diagnostic_msgs.msg import DiagnosticArray
from inference import smooth_image
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from depth_node.backends import Backend, create_backend
from depth_node.images import color_image_message
from depth_node.model import read_model
from depth_node.resources import find_model
from depth_node.tools.isolation import isolated_environment

REPOSITORY = Path(__file__).resolve().parents[1]
TOPICS: dict[str, type] = {
    "depth/image": Image,
    "depth/camera_info": CameraInfo,
    "points": PointCloud2,
    "depth/color": Image,
}
SCENARIOS = {
    "depth/image": ["depth/image"],
    "points": ["points"],
    "all four": list(TOPICS),
}
STAGES = ("wait", "decode", "resize", "inference", "depth", "depth_image", "depth_camera_info", "points", "depth_color")
CDR_HEADER_BYTES = 4


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="depth-base", help="model file or shipped name")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--stride", type=int, default=1, help="cloud_stride")
    parser.add_argument("--size", type=int, nargs=2, default=(1242, 375), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rate", type=float, default=5.0, help="images per second")
    parser.add_argument("--frames", type=int, default=100, help="images per row, after as many as 2 s to settle")
    arguments = parser.parse_args()
    os.environ.update(isolated_environment())
    model = read_model(find_model(arguments.model))
    backend = create_backend(model, arguments.backend, arguments.precision, arguments.threads)
    bare_ms = bare_inference_ms(backend, model.spec.input_width, model.spec.input_height)
    described = {"backend": backend.name, "device": backend.device, "precision": backend.precision}
    backend.close()
    parameters = {
        "model": model.path,
        "backend": arguments.backend,
        "precision": arguments.precision,
        "threads": arguments.threads,
        "cloud_stride": arguments.stride,
    }
    rows = []
    for name, topics in SCENARIOS.items():
        with running_node(parameters):
            rows.append({"subscribed": name, "bare_inference_ms": bare_ms, **measure(topics, arguments)})
    named = {"model": arguments.model, "width": arguments.size[0], "height": arguments.size[1]}
    report("node_latency", rows, **named, **described, rate=arguments.rate, frames=arguments.frames)
    return 0


def bare_inference_ms(backend: Backend, width: int, height: int, runs: int = 50) -> float:
    """Median of the backend alone, in this process, with nothing else at work."""
    image = smooth_image(width, height)
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        backend.infer(image)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1e3


@contextmanager
def running_node(parameters: dict[str, Any]) -> Iterator[None]:
    """The node in a process of its own."""
    options = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    process = subprocess.Popen([sys.executable, "-m", "depth_node.node", "--ros-args", *options], cwd=REPOSITORY)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def measure(topics: Sequence[str], arguments: argparse.Namespace) -> dict[str, float | int | None]:
    """One row: publish images at a fixed rate, and take what comes back on `topics`."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("benchmark", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    arrived: dict[int, dict[str, float]] = {}  # number of the image -> topic -> time of arrival
    values: dict[str, str] = {}

    def keep(topic: str) -> Callable[[bytes], None]:
        def keep_arrival(serialized: bytes) -> None:
            (number,) = struct.unpack_from("<i", serialized, CDR_HEADER_BYTES)  # header.stamp.sec comes first
            arrived.setdefault(number, {})[topic] = time.perf_counter()

        return keep_arrival

    for topic in topics:
        node.create_subscription(TOPICS[topic], topic, keep(topic), QoSProfile(depth=5), raw=True)
    node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda message: values.update({pair.key: pair.value for pair in message.status[0].values}),
        QoSProfile(depth=1),
    )
    images = node.create_publisher(Image, "image", QoSProfile(depth=5))
    while not (images.get_subscription_count() and all(node.count_publishers(topic) for topic in topics)):
        executor.spin_once(0.1)

    settling = int(2 * arguments.rate)
    rgb = cv2.resize(smooth_image(640, 192)[0], tuple(arguments.size))
    sent: dict[int, float] = {}
    due = time.perf_counter()
    for number in range(settling + arguments.frames):
        message = color_image_message(rgb, Header(frame_id="camera"))
        message.header.stamp.sec = number
        sent[number] = time.perf_counter()
        images.publish(message)
        due += 1 / arguments.rate
        while (left := due - time.perf_counter()) > 0:
            executor.spin_once(left)
    until = time.perf_counter() + 2.5  # the next diagnostics count all images
    while time.perf_counter() < until:
        executor.spin_once(0.1)
    node.destroy_node()
    context.shutdown()

    whole = [
        max(times.values()) - sent[number]
        for number, times in arrived.items()
        if number >= settling and len(times) == len(topics)
    ]
    median, p95 = np.percentile(np.array(whole) * 1e3, [50, 95])
    latency = float(values["latency_p50_ms"])
    return {
        **{f"{stage}_ms": float(values[key]) if (key := f"{stage}_p50_ms") in values else None for stage in STAGES},
        "latency_p50_ms": latency,
        "latency_p95_ms": float(values["latency_p95_ms"]),
        "node_adds_ms": latency - float(values["inference_p50_ms"]),
        "end_to_end_p50_ms": float(median),
        "end_to_end_p95_ms": float(p95),
        "frames_in": int(values["frames_in"]),
        "frames_dropped": int(values["frames_dropped"]),
        "results": len(whole),
    }


if __name__ == "__main__":
    sys.exit(main())
