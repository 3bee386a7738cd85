"""What learning the intrinsics costs the depth node: CPU, and the latency of depth, with and without it, in turns.

One node, images of a camera that turns at a fixed rate before a wall, or those of a drive (--images), over and over;
depth and cloud subscribed. `intrinsics.source` goes to and fro
between `prior` (nothing is learned) and `learned` within the same process. `cpu_ms` is the node's CPU time per image
that results came of (on a busy machine not all do), `more` in percent of what it is without; `end_to_end` (p50 / p95,
ms) is from before an image is sent until all of it is here. `--listen` subscribes to the status, so that the node never
rests from learning.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import report
from diagnostic_msgs.msg import DiagnosticArray
from node_process import (
    INTRINSICS,
    Arrivals,
    Camera,
    Peer,
    Usage,
    isolated_peer,
    node_arguments,
    node_context,
    node_parameters,
    percentiles,
    running_node,
)
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from depth_node.camera import PinholeCamera
from depth_node.images import color_image_message

BAR_PERCENT = 10.0  # of what the node uses without it
SETTLE_S = 3.0
TOPICS = ("depth/image", "points")
DEGREES_PER_IMAGE = 0.7
IMAGES = 40


Image = NDArray[np.uint8]


class MovingCamera(Camera):
    """Shows images uint8 [H, W, 3], over and over."""

    def __init__(self, node: Node, size: tuple[int, int], images: Iterable[Image]) -> None:
        super().__init__(node, size, ReliabilityPolicy.BEST_EFFORT)
        header = Header(frame_id="camera")
        self._messages = cycle([bytearray(serialize_message(color_image_message(image, header))) for image in images])

    def publish(self) -> None:
        """The next image, and its camera_info before it."""
        self._image = next(self._messages)
        super().publish()


def turning(size: tuple[int, int]) -> list[Image]:
    """To and fro in front of a textured wall far away; rotation alone moves pixels by K R K^-1."""
    width, height = size
    wall = textured_image(3 * width, 3 * height)
    camera = PinholeCamera.from_normalized(INTRINSICS, width, height).matrix()
    plane = camera.copy()
    plane[:2, 2] += (width, height)
    images = []
    for yaw in np.radians(DEGREES_PER_IMAGE) * (np.arange(IMAGES) - IMAGES / 2):
        rotation = cv2.Rodrigues(np.array([0.1 * yaw, yaw, 0.0]))[0]
        to_wall = plane @ rotation @ np.linalg.inv(camera)
        seen = cv2.warpPerspective(wall, to_wall, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        images.append(np.asarray(seen, np.uint8))
    return [*images, *images[::-1]]


def driving(folder: Path) -> Iterator[Image]:
    """The images of a folder in the order of their names."""
    for file in sorted(file for file in folder.iterdir() if file.suffix in (".png", ".jpg")):
        yield np.ascontiguousarray(np.asarray(cv2.imread(str(file)), np.uint8)[..., ::-1])


def main() -> int:
    """Measure and report."""
    parser = node_arguments(__doc__)
    parser.add_argument("--rate", type=float, default=10.0, help="images per second")
    parser.add_argument("--seconds", type=float, default=15.0, help="per turn")
    parser.add_argument("--turns", type=int, default=3, help="of each kind")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="of a drive, of --size (default: a wall)")
    parser.add_argument("--listen", action="store_true", help="subscribe to intrinsics/status")
    parser.add_argument("--intrinsics-rate", type=float, metavar="HZ", help="the parameter (default: the node's)")
    arguments = parser.parse_args()
    context = node_context(arguments)
    turns: dict[str, list[dict[str, Any]]] = {"prior": [], "learned": []}
    parameters = node_parameters(arguments)
    if arguments.intrinsics_rate is not None:
        parameters["intrinsics.rate"] = arguments.intrinsics_rate
    with isolated_peer() as peer, running_node(parameters) as process:
        arrivals = Arrivals(TOPICS)
        peer.subscribe(arrivals, ReliabilityPolicy.RELIABLE)
        size = tuple(arguments.size)
        camera = MovingCamera(peer.node, size, driving(arguments.images) if arguments.images else turning(size))
        peer.wait_until_active(camera, TOPICS)
        if arguments.listen:
            peer.node.create_subscription(DiagnosticArray, "intrinsics/status", lambda _: None, 5)
        for source in ("prior", "learned") * arguments.turns:
            set_source(peer, source)
            peer.stream(camera, arguments.rate, SETTLE_S)
            started, before = time.perf_counter(), Usage.of(process)
            peer.stream(camera, arguments.rate, arguments.seconds)
            cpu_ms = 1e3 * (Usage.of(process).cpu - before.cpu)
            end_to_end = arrivals.end_to_end_ms(camera.sent, after=started)
            turns[source].append({"cpu_ms": cpu_ms / len(end_to_end), "end_to_end": end_to_end})
        learned = dict(peer.final_diagnostics().values)
    rows = [row(source, of_source) for source, of_source in turns.items()]
    without, with_it = (each["cpu_ms"] for each in rows)
    rows[1] |= {"more": 100 * (with_it / without - 1), "bar": BAR_PERCENT}
    pairs = {key: learned.get(f"intrinsics_{key}") for key in ("state", "pairs")}
    report("node_intrinsics", rows, **context, rate=arguments.rate, seconds=arguments.seconds, **pairs)
    return 0


def row(source: str, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """All turns of a kind."""
    cpu = [turn["cpu_ms"] for turn in turns]
    return {
        "intrinsics.source": source,
        "cpu_ms": float(np.mean(cpu)),
        "least": min(cpu),
        "most": max(cpu),
        "more": None,
        "bar": None,
        "end_to_end": percentiles(np.concatenate([turn["end_to_end"] for turn in turns]), 50, 95),
        "results": sum(len(turn["end_to_end"]) for turn in turns),
    }


def textured_image(width: int, height: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3] with structure of several sizes, as a street has."""
    random = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (24, 48, 96, 192):
        noise = random.standard_normal((cells, cells * width // height, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    total -= total.min()
    return np.asarray(255 * total / total.max(), np.uint8)


def set_source(peer: Peer, source: str) -> None:
    """Set `intrinsics.source` of the node."""
    client = peer.node.create_client(SetParameters, "depth_node/set_parameters")
    peer.wait_for(client.service_is_ready, "the node's parameters")
    parameter = Parameter("intrinsics.source", value=source).to_parameter_msg()
    future = client.call_async(SetParameters.Request(parameters=[parameter]))
    peer.wait_for(future.done, "an answer")
    peer.node.destroy_client(client)


if __name__ == "__main__":
    sys.exit(main())
