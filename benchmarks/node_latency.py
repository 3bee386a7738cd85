"""What the depth node adds to bare inference, per frame and stage by stage, through real DDS between processes.

Each row is a node process of its own, with another set of topics subscribed. Times are p50 / p95 in milliseconds, the
node's own from the receipt of an image to the last publication; `adds` is that less the inference of the same frame.
`end_to_end` is from before this process sends an image until it has the last result of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

from common import report
from node_process import (
    RESULTS,
    Arrivals,
    Camera,
    isolated_peer,
    node_arguments,
    node_context,
    node_parameters,
    percentiles,
    running_node,
)
from rclpy.qos import ReliabilityPolicy

STAGES = (
    *("wait", "decode", "resize", "inference", "depth", "sky"),
    *("depth_image", "depth_camera_info", "points", "depth_color"),
)
SETTLE_S = 2.0


@dataclass(frozen=True)
class Scenario:
    """Who subscribes to what, and what the node may add to inference at the median (ms; None: not bounded)."""

    name: str
    topics: tuple[str, ...]
    cloud_stride: int = 2
    bar_ms: float | None = None


SCENARIOS = (
    Scenario("depth/image", ("depth/image",), bar_ms=2.0),
    Scenario("all four", tuple(RESULTS), bar_ms=6.0),
    Scenario("all four, stride 1", tuple(RESULTS), cloud_stride=1),
    Scenario("points", ("points",)),
)


def main() -> int:
    """Measure and report."""
    parser = node_arguments(__doc__)
    parser.add_argument("--rate", type=float, default=10.0, help="images per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="per row")
    arguments = parser.parse_args()
    context = node_context(arguments)
    rows = [measure(scenario, arguments) for scenario in SCENARIOS]
    report("node_latency", rows, **context, rate=arguments.rate, seconds=arguments.seconds)
    return 0


def measure(scenario: Scenario, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row: images at a fixed rate."""
    parameters = {**node_parameters(arguments), "cloud.stride": scenario.cloud_stride}
    with isolated_peer() as peer, running_node(parameters):
        arrivals = Arrivals(scenario.topics)
        peer.subscribe(arrivals, ReliabilityPolicy.RELIABLE)
        camera = Camera(peer.node, arguments.size, ReliabilityPolicy.BEST_EFFORT)
        peer.wait_until_active(camera, scenario.topics)
        peer.stream(camera, arguments.rate, SETTLE_S)
        started = time.perf_counter()
        peer.stream(camera, arguments.rate, arguments.seconds)
        diagnostics = peer.final_diagnostics()
        end_to_end = arrivals.end_to_end_ms(camera.sent, after=started)
    adds = diagnostics.percentiles("overhead", 50, 95)
    return {
        "subscribed": scenario.name,
        "adds": adds,
        "bar": scenario.bar_ms,
        "adds_p95/p50": adds[1] / adds[0] if adds else None,
        "latency": diagnostics.percentiles("latency", 50, 95),
        "end_to_end": percentiles(end_to_end, 50, 95),
        **{stage: diagnostics.percentiles(stage, 50, 95) for stage in STAGES},
        "results": len(end_to_end),
        "dropped": diagnostics.count("frames_dropped"),
    }


if __name__ == "__main__":
    sys.exit(main())
