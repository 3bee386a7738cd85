"""What the depth node costs while images come in and nobody subscribes to a result. Percent is of one core."""

from __future__ import annotations

import sys

from common import report
from node_process import Camera, Usage, isolated_peer, node_arguments, node_context, node_parameters, running_node
from rclpy.qos import ReliabilityPolicy

BAR_PERCENT = 3.0
SETTLE_S = 3.0


def main() -> int:
    """Measure and report."""
    parser = node_arguments(__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=(0.0, 10.0, 30.0), metavar="HZ", help="0: no images")
    parser.add_argument("--seconds", type=float, default=20.0, help="per row")
    arguments = parser.parse_args()
    context = node_context(arguments)
    rows = []
    with isolated_peer() as peer, running_node(node_parameters(arguments)) as process:
        camera = Camera(peer.node, arguments.size, ReliabilityPolicy.BEST_EFFORT)
        peer.wait_until_active(camera)
        for rate in arguments.rates:
            peer.stream(camera, rate, SETTLE_S)
            before = Usage.of(process)
            peer.stream(camera, rate, arguments.seconds)
            after = Usage.of(process)
            bar = BAR_PERCENT if rate == 10 else None
            rows.append(
                {
                    "input_hz": rate,
                    "cpu_percent": after.cpu_percent_since(before),
                    "bar": bar,
                    "rss_mb": after.rss / 1e6,
                }
            )
    report("node_idle", rows, **context, seconds=arguments.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
