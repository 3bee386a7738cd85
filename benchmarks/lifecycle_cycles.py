"""Does the depth node's memory grow when it is deactivated and activated, or cleaned up and configured, many times?

Between two cycles the node works on some images. Memory is in MB: before the first cycle, after a tenth of them, which
is when pools and caches are filled, and after the last; `growth_percent` is from the second to the third.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import psutil
from common import report
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_process import (
    RESULTS,
    Arrivals,
    Camera,
    Peer,
    isolated_peer,
    node_arguments,
    node_context,
    node_parameters,
    running_node,
)
from rclpy.client import Client
from rclpy.qos import ReliabilityPolicy

CYCLES = {
    "deactivate, activate": (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE),
    "deactivate, cleanup, configure, activate": (
        *(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP),
        *(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
    ),
}
RATE_HZ = 20.0
BAR_PERCENT = 2.0


def main() -> int:
    """Measure and report."""
    parser = node_arguments(__doc__)
    parser.add_argument("--cycles", type=int, default=50, help="of each kind")
    arguments = parser.parse_args()
    context = node_context(arguments)
    rows = []
    for name, transitions in CYCLES.items():
        with isolated_peer() as peer, running_node(node_parameters(arguments)) as process:
            rows.append({"cycle": name, "cycles": arguments.cycles, **measure(peer, process, transitions, arguments)})
    report("lifecycle_cycles", rows, **context)
    return 0


def measure(
    peer: Peer, process: psutil.Process, transitions: tuple[int, ...], arguments: argparse.Namespace
) -> dict[str, Any]:
    """One row."""
    arrivals = Arrivals(list(RESULTS))
    peer.subscribe(arrivals, ReliabilityPolicy.RELIABLE)
    camera = Camera(peer.node, arguments.size, ReliabilityPolicy.BEST_EFFORT)
    client = peer.node.create_client(ChangeState, "depth_node/change_state")
    peer.wait_until_active(camera)
    peer.stream(camera, RATE_HZ, 2.0)
    rss, files, threads = [process.memory_info().rss], process.num_fds(), process.num_threads()
    started = time.perf_counter()
    for _ in range(arguments.cycles):
        for transition in transitions:
            change_state(peer, client, transition)
        peer.wait_until_active(camera)
        peer.wait_for_results(camera, arrivals, RATE_HZ)
        rss.append(process.memory_info().rss)
    seconds = time.perf_counter() - started
    before, early, late = (rss[i] / 1e6 for i in (0, max(1, arguments.cycles // 10), -1))
    return {
        "rss_mb": (before, early, late),
        "growth_percent": 100 * (late / early - 1),
        "bar": BAR_PERCENT,
        "files": (files, process.num_fds()),
        "threads": (threads, process.num_threads()),
        "seconds_per_cycle": seconds / arguments.cycles,
    }


def change_state(peer: Peer, client: Client, transition: int) -> None:
    """Ask for a transition and wait for it.

    Raises:
        RuntimeError: the node refuses it.
    """
    peer.wait_for(client.service_is_ready, "the lifecycle service")
    future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    peer.wait_for(future.done, "a lifecycle transition")
    if not future.result().success:
        raise RuntimeError(f"the node refuses transition {transition}")


if __name__ == "__main__":
    sys.exit(main())
