"""How long the depth node takes from the start of its process to its first depth image, in seconds.

The stages are what the rest of the system sees: `import` until the node appears (Python, libraries, rclpy),
`configure` until it listens to images (model read, compiled from the cache and warmed up), `first_frame` until a depth
image is here, with images at 30 Hz. The first start, not counted, fills the cache of compiled models.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from common import report
from node_process import (
    Arrivals,
    Camera,
    isolated_peer,
    node_arguments,
    node_context,
    node_parameters,
    running_node,
)
from rclpy.qos import ReliabilityPolicy

BAR_S = 4.0
RATE_HZ = 30.0
STAGES = ("import", "configure", "first_frame", "total")


def main() -> int:
    """Measure and report."""
    parser = node_arguments(__doc__)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    context = node_context(arguments)
    seconds = np.array([start(arguments) for _ in range(arguments.starts + 1)][1:])
    rows = [
        {
            "stage": stage,
            "median": float(np.median(column)),
            "fastest": float(column.min()),
            "slowest": float(column.max()),
            "bar": BAR_S if stage == "total" else None,
        }
        for stage, column in zip(STAGES, seconds.T, strict=True)
    ]
    report("node_startup", rows, **context, starts=arguments.starts)
    return 0


def start(arguments: argparse.Namespace) -> tuple[float, ...]:
    """Seconds of each of `STAGES` of one start."""
    with isolated_peer() as peer:
        arrivals = Arrivals(("depth/image",))
        peer.subscribe(arrivals, ReliabilityPolicy.RELIABLE)
        camera = Camera(peer.node, arguments.size, ReliabilityPolicy.BEST_EFFORT)
        started = time.perf_counter()
        with running_node(node_parameters(arguments)):
            peer.wait_for(lambda: peer.node.count_publishers("/diagnostics"), "the node to appear")
            appeared = time.perf_counter()
            peer.wait_until_active(camera, arrivals.topics)
            active = time.perf_counter()
            while not arrivals.times:
                peer.stream(camera, RATE_HZ, 1 / RATE_HZ)
            (arrived,) = next(iter(arrivals.times.values())).values()
    return appeared - started, active - appeared, arrived - active, arrived - started


if __name__ == "__main__":
    sys.exit(main())
