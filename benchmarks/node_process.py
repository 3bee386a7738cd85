"""The depth node in a process of its own, and in this one a camera and subscribers, with real DDS between them.

Images go out and results come in as serialized messages, so that this process costs as little as it can.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import psutil
import rclpy
from common import smooth_image
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from depth_node.backends import create_backend
from depth_node.camera import PinholeCamera
from depth_node.camera_messages import camera_info_message
from depth_node.images import color_image_message
from depth_node.model import read_model
from depth_node.resources import find_model
from depth_node.tools.isolation import isolated_environment

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS: dict[str, type] = {
    "depth/image": Image,
    "depth/camera_info": CameraInfo,
    "points": PointCloud2,
    "depth/color": Image,
}
INTRINSICS = (0.58, 1.92, 0.49, 0.46)  # of the pictures that are sent: KITTI's, normalised
PATIENCE_S = 30.0

# header.stamp comes first in every message with a header, after four bytes that name the encoding.
_STAMP, _STAMP_OFFSET = struct.Struct("<iI"), 4


def read_stamp(serialized: bytes) -> int:
    """Nanoseconds of header.stamp."""
    seconds, nanoseconds = _STAMP.unpack_from(serialized, _STAMP_OFFSET)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def write_stamp(serialized: bytearray, stamp: int) -> None:
    """Set header.stamp, in nanoseconds."""
    _STAMP.pack_into(serialized, _STAMP_OFFSET, *divmod(stamp, 1_000_000_000))


def node_arguments(description: str | None) -> argparse.ArgumentParser:
    """Options that all benchmarks of the node have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="depth-base", help="model file or shipped name")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the inference; 0: the library's choice")
    parser.add_argument("--size", type=int, nargs=2, default=(1242, 375), metavar=("WIDTH", "HEIGHT"))
    return parser


def node_parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The node's parameters that `node_arguments` asks for."""
    return {name: getattr(arguments, name) for name in ("model", "backend", "precision", "threads")}


def node_context(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a report says about the node: model, image size, and what the backend really runs on."""
    model = read_model(find_model(arguments.model))
    backend = create_backend(model, arguments.backend, arguments.precision, arguments.threads)
    described = {"backend": backend.name, "device": backend.device, "precision": backend.precision}
    backend.close()
    return {"model": arguments.model, "width": arguments.size[0], "height": arguments.size[1], **described}


@contextmanager
def running_node(parameters: Mapping[str, Any], log: IO[str] | None = None) -> Iterator[psutil.Process]:
    """The node, configured and activated by itself, until the end of the block.

    log: file that takes all that it says; without one, warnings go where this process's own go.
    """
    options = [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    level = "info" if log else "warn"
    command = [sys.executable, "-m", "depth_node.node_main", "--ros-args", "--log-level", level, *options]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class Usage:
    """What a process had used at a moment: seconds of CPU, seconds of a steady clock, resident memory in bytes."""

    cpu: float
    at: float
    rss: int

    @classmethod
    def of(cls, process: psutil.Process) -> Usage:
        """Now."""
        times = process.cpu_times()
        return cls(times.user + times.system, time.perf_counter(), process.memory_info().rss)

    def cpu_percent_since(self, before: Usage) -> float:
        """Of one core."""
        return 100 * (self.cpu - before.cpu) / (self.at - before.at)


class Camera:
    """Publishes one picture and its camera_info as a driver does.

    sent: when each image was handed to the middleware (seconds of `time.perf_counter`), by stamp in nanoseconds.
    """

    def __init__(self, node: Node, size: Sequence[int], reliability: ReliabilityPolicy) -> None:
        width, height = size
        rgb: NDArray[np.uint8] = cv2.resize(smooth_image(640, 192)[0], (width, height))  # type: ignore[assignment]
        header = Header(frame_id="camera")
        info = camera_info_message(PinholeCamera.from_normalized(INTRINSICS, width, height), True, header)
        self.sent: dict[int, float] = {}
        self.images: Publisher = node.create_publisher(Image, "image", QoSProfile(depth=5, reliability=reliability))
        self._infos = node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=5, reliability=reliability))
        self._image = bytearray(serialize_message(color_image_message(rgb, header)))
        self._info = bytearray(serialize_message(info))

    def publish(self) -> None:
        """One image, and its camera_info before it."""
        stamp = time.time_ns()
        for message in (self._image, self._info):
            write_stamp(message, stamp)
        self._infos.publish(bytes(self._info))
        self.sent[stamp] = time.perf_counter()
        self.images.publish(bytes(self._image))


@dataclass
class Arrivals:
    """When the results of each image came in: stamp of the image in nanoseconds -> topic -> seconds."""

    topics: Sequence[str]
    times: dict[int, dict[str, float]] = field(default_factory=dict)

    def keep(self, topic: str) -> Callable[[bytes], None]:
        """Callback for a serialized message of `topic`."""

        def keep(serialized: bytes) -> None:
            self.times.setdefault(read_stamp(serialized), {})[topic] = time.perf_counter()

        return keep

    def end_to_end_ms(
        self, sent: Mapping[int, float], after: float = 0.0, topics: Sequence[str] | None = None
    ) -> NDArray[np.float64]:
        """From the sending of each image until the last of its results was here: float64 [n].

        after: of images sent since then; topics: the results that count, all by default.
        """
        counted = frozenset(self.topics if topics is None else topics)
        whole = [
            (max(times[topic] for topic in counted) - sent[stamp]) * 1e3
            for stamp, times in self.times.items()
            if times.keys() >= counted and sent.get(stamp, -1.0) >= after
        ]
        return np.array(whole)


@dataclass
class Diagnostics:
    """The node's last status on /diagnostics, and the stamps of all of them in seconds."""

    values: dict[str, str] = field(default_factory=dict)
    stamps: list[float] = field(default_factory=list)

    def keep(self, message: DiagnosticArray) -> None:
        """Callback."""
        stamp = message.header.stamp
        self.stamps.append(stamp.sec + stamp.nanosec * 1e-9)
        self.values = {pair.key: pair.value for pair in message.status[0].values}

    def count(self, key: str) -> int:
        """One of the node's counters."""
        return int(self.values[key])

    def percentiles(self, name: str, *ranks: int) -> tuple[float, ...] | None:
        """Milliseconds of a stage, `latency` or `overhead`; None where the node has not been through it."""
        keys = [f"{name}_p{rank}_ms" for rank in ranks]
        return tuple(float(self.values[key]) for key in keys) if self.values.keys() >= set(keys) else None


class Peer:
    """The rest of the ROS system as the node sees it: camera, subscribers and a reader of /diagnostics."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("benchmark", context=self._context)
        self.executor = SingleThreadedExecutor(context=self._context)
        self.executor.add_node(self.node)
        self.diagnostics = Diagnostics()
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.keep, QoSProfile(depth=10))

    def close(self) -> None:
        """Leave the ROS system."""
        self.executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()

    def subscribe(self, arrivals: Arrivals, reliability: ReliabilityPolicy) -> list[Subscription]:
        """Take the results of `arrivals.topics`."""
        qos = QoSProfile(depth=5, reliability=reliability)
        return [
            self.node.create_subscription(RESULTS[topic], topic, arrivals.keep(topic), qos, raw=True)
            for topic in arrivals.topics
        ]

    def spin_until(self, moment: float) -> None:
        """Handle what comes in until a moment of `time.perf_counter`."""
        while (left := moment - time.perf_counter()) > 0:
            self.executor.spin_once(left)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Handle what comes in until something is so.

        Raises:
            TimeoutError: it is not after `PATIENCE_S`.
        """
        until = time.perf_counter() + PATIENCE_S
        while not condition():
            if time.perf_counter() > until:
                raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")
            self.executor.spin_once(0.02)

    def wait_until_active(self, camera: Camera, topics: Sequence[str] = ()) -> None:
        """The node listens to the camera and offers the topics."""
        self.wait_for(
            lambda: camera.images.get_subscription_count() and all(map(self.node.count_publishers, topics)),
            "the node to become active",
        )

    def stream(self, camera: Camera, rate: float, seconds: float) -> None:
        """Images at a fixed rate in Hz; results are handled in between."""
        started = time.perf_counter()
        for number in range(round(rate * seconds)):
            self.spin_until(started + number / rate)
            camera.publish()
        self.spin_until(started + seconds)

    def wait_for_results(self, camera: Camera, arrivals: Arrivals, rate: float) -> None:
        """Images at a fixed rate in Hz until a result of a new one is here."""
        known = len(arrivals.times)
        until = time.perf_counter() + PATIENCE_S
        while len(arrivals.times) == known:
            if time.perf_counter() > until:
                raise TimeoutError(f"waited {PATIENCE_S:.0f} s for a result")
            self.stream(camera, rate, 1 / rate)

    def final_diagnostics(self) -> Diagnostics:
        """After a stream: diagnostics that count all of its images."""
        received = len(self.diagnostics.stamps)
        self.wait_for(lambda: len(self.diagnostics.stamps) >= received + 2, "diagnostics")
        return self.diagnostics


@contextmanager
def isolated_peer() -> Iterator[Peer]:
    """A `Peer` in a DDS domain that only processes started from now on share."""
    os.environ.update(isolated_environment())
    peer = Peer()
    try:
        yield peer
    finally:
        peer.close()


def percentiles(values: NDArray[np.float64], *ranks: float) -> tuple[float, ...] | None:
    """Linearly interpolated; None where there are no values."""
    return tuple(np.percentile(values, ranks).tolist()) if len(values) else None
