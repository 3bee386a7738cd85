"""How the depth node bears input rates below and above what it can process, through real DDS between processes.

All outputs are subscribed. Each row is a node process of its own under one input rate; percentiles are p50 / p95 / p99
in milliseconds. `latency` is the node's own, from receipt to the last publication; `end_to_end` and `age` count from
before this process sends an image: until its last result is here, and until its depth image is, the age of what a
subscriber works with. `age_bound` is one inference plus one frame period. Percent is of one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import report
from node_process import (
    RESULTS,
    Arrivals,
    Camera,
    Usage,
    isolated_peer,
    node_arguments,
    node_context,
    node_parameters,
    percentiles,
    running_node,
)
from rclpy.qos import ReliabilityPolicy

RELIABILITIES = {"best effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}
SETTLE_S = 2.0


def main() -> int:
    """Measure, report and draw."""
    parser = node_arguments(__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=(5.0, 10.0, 15.0, 20.0, 30.0, 60.0), metavar="HZ")
    parser.add_argument("--seconds", type=float, default=15.0, help="per row")
    arguments = parser.parse_args()
    context = node_context(arguments)
    rows = [measure(name, rate, arguments) for name in RELIABILITIES for rate in arguments.rates]
    path = report("node_rates", rows, **context, seconds=arguments.seconds)
    draw(rows, path.with_suffix(".png"))
    return 0


def measure(reliability: str, rate: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row: images at a fixed rate in Hz, sent and taken with one reliability."""
    qos = RELIABILITIES[reliability]
    override = {"qos_overrides./image.subscription.reliability": qos.name.lower()}
    with isolated_peer() as peer, running_node({**node_parameters(arguments), **override}) as process:
        arrivals = Arrivals(list(RESULTS))
        peer.subscribe(arrivals, qos)
        camera = Camera(peer.node, arguments.size, qos)
        peer.wait_until_active(camera, arrivals.topics)
        (subscription,) = peer.node.get_subscriptions_info_by_topic("image")
        peer.stream(camera, rate, SETTLE_S)
        started, before = time.perf_counter(), Usage.of(process)
        peer.stream(camera, rate, arguments.seconds)
        after = Usage.of(process)
        diagnostics = peer.final_diagnostics()
    ages = arrivals.end_to_end_ms(camera.sent, after=started, topics=("depth/image",))
    inference = diagnostics.percentiles("inference", 50)
    return {
        "camera": reliability,
        "node": subscription.qos_profile.reliability.name.lower().replace("_", " "),
        "input_hz": rate,
        "output_hz": len(ages) / arguments.seconds,
        "sent": len(camera.sent),
        "received": diagnostics.count("frames_in"),
        "published": diagnostics.count("frames_published"),
        "dropped": diagnostics.count("frames_dropped"),
        "latency": diagnostics.percentiles("latency", 50, 95, 99),
        "end_to_end": percentiles(arrivals.end_to_end_ms(camera.sent, after=started), 50, 95, 99),
        "age": percentiles(ages, 50, 95, 99),
        "age_bound": inference[0] + 1e3 / rate if inference else None,
        "cpu_percent": after.cpu_percent_since(before),
        "rss_mb": after.rss / 1e6,
    }


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Output rate, latency and CPU over input rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    rate_axes, latency_axes, cpu_axes = figure.subplots(1, 3)
    for reliability in RELIABILITIES:
        series = [row for row in rows if row["camera"] == reliability]
        rates = [row["input_hz"] for row in series]
        rate_axes.plot(rates, [row["output_hz"] for row in series], "o-", label=reliability)
        (line,) = latency_axes.plot(rates, [row["latency"][0] for row in series], "o-", label=f"{reliability}, p50")
        p95 = [row["latency"][1] for row in series]
        latency_axes.plot(rates, p95, "o:", color=line.get_color(), label=f"{reliability}, p95")
        cpu_axes.plot(rates, [row["cpu_percent"] for row in series], "o-", label=reliability)
    rate_axes.plot(rates, rates, color="0.7", label="every image")
    for axes, title in (
        (rate_axes, "output rate (Hz)"),
        (latency_axes, "latency (ms)"),
        (cpu_axes, "CPU (% of a core)"),
    ):
        axes.set(title=title, xlabel="input rate (Hz)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
