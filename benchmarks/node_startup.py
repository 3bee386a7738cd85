"""How long the depth node takes from the start of its process to its first depth image, in seconds.

`import` is a process that only imports the node; `configured` until the node says that its model is read, compiled from
the cache and warmed up, that import included; `first_depth` from there until the first depth image is here, with images
at 30 Hz: the two processes have to discover each other for it. The first start, not counted, fills the cache of
compiled models.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from common import report
from node_process import (
    REPOSITORY,
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
STAGES = ("import", "configured", "first_depth", "total")


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
    began = time.time()
    subprocess.run([sys.executable, "-c", "import depth_node.node"], cwd=REPOSITORY, check=True)
    imported = time.time()
    with isolated_peer() as peer, tempfile.TemporaryFile("w+") as log:
        arrivals = Arrivals(("depth/image",))
        peer.subscribe(arrivals, ReliabilityPolicy.RELIABLE)
        camera = Camera(peer.node, arguments.size, ReliabilityPolicy.BEST_EFFORT)
        started = time.time()
        with running_node(node_parameters(arguments), log):
            peer.wait_until_active(camera, arrivals.topics)
            peer.wait_for_results(camera, arrivals, RATE_HZ)
            arrived = time.time()
        log.seek(0)
        (configured,) = (float(stamp) for stamp in re.findall(r"\[(\d+\.\d+)\] \[depth_node\]: model ", log.read()))
    return imported - began, configured - started, arrived - configured, arrived - started


if __name__ == "__main__":
    sys.exit(main())
