"""The depth node at full load for minutes: does its memory grow, does it leak files or threads, does its heart stop?

Images at a fixed rate, all outputs subscribed by this process, a parameter changed every few seconds and subscribers
that come and go. `rss_growth_percent` compares the medians of the second and the last minute (of the last quarter of
the time, when that is shorter); a heartbeat is missed when two diagnostics lie more than 1.5 s apart by their stamps.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import report
from node_process import (
    RESULTS,
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
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy

RSS_BAR_PERCENT = 2.0
HEARTBEAT_S = 1.5
SETTLE_S = 3.0
SAMPLE_S = 1.0
CHANGE_S = 5.0
CHURN_S = 7.0
CHANGES: tuple[dict[str, Any], ...] = (
    {"cloud.stride": 1},
    {"color.map": "viridis", "max_range": 60.0},
    {"cloud.stride": 2},
    {"cloud.organized": False},
    {"cloud.organized": True, "max_range": float("inf")},
    {"color.map": "turbo"},
)


def main() -> int:
    """Measure, report and draw."""
    parser = node_arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0, help="images per second")
    arguments = parser.parse_args()
    context = node_context(arguments)
    with isolated_peer() as peer, running_node(node_parameters(arguments)) as process:
        row, samples = soak(peer, process, arguments)
    columns = ("seconds", "rss_mb", "files", "threads", "cpu_percent", "latency_p50_ms", "latency_p95_ms", "output_hz")
    series = dict(zip(columns, samples.T.tolist(), strict=True))
    path = report("soak", [row], **context, minutes=arguments.minutes, rate=arguments.rate, series=series)
    draw(series, path.with_suffix(".png"))
    return 0


def soak(
    peer: Peer, process: psutil.Process, arguments: argparse.Namespace
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """The row of the report, and what was sampled: float64 [n, 8], columns as `main` names them."""
    arrivals = Arrivals(list(RESULTS))
    subscriptions = peer.subscribe(arrivals, ReliabilityPolicy.RELIABLE)
    camera = Camera(peer.node, arguments.size, ReliabilityPolicy.BEST_EFFORT)
    client = peer.node.create_client(SetParameters, "depth_node/set_parameters")
    peer.wait_until_active(camera, arrivals.topics)
    peer.wait_for(client.service_is_ready, "the parameter service")
    peer.stream(camera, arguments.rate, SETTLE_S)
    change, churn, sample = every(CHANGE_S), every(CHURN_S), every(SAMPLE_S)
    changes, changed, samples = itertools.cycle(CHANGES), [], []
    started, before = time.perf_counter(), Usage.of(process)
    for number in range(round(60 * arguments.minutes * arguments.rate)):
        peer.spin_until(started + number / arguments.rate)
        camera.publish()
        if next(change):
            parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in next(changes).items()]
            changed.append(client.call_async(SetParameters.Request(parameters=parameters)))
        if next(churn):
            for subscription in subscriptions:
                peer.node.destroy_subscription(subscription)
            subscriptions = peer.subscribe(arrivals, ReliabilityPolicy.RELIABLE)
        if next(sample):
            usage = Usage.of(process)
            samples.append(
                [usage.at - started, usage.rss / 1e6, *vitals(peer, process, usage.cpu_percent_since(before))]
            )
            before = usage
    diagnostics = peer.final_diagnostics()
    table = np.array(samples)
    refused = sum(not result.successful for future in changed if future.done() for result in future.result().results)
    row = {
        "minutes": arguments.minutes,
        "sent": len(camera.sent),
        "published": diagnostics.count("frames_published"),
        "rss_mb": float(table[-1, 1]),
        "rss_growth_percent": growth_percent(table[:, 0], table[:, 1]),
        "bar": RSS_BAR_PERCENT,
        "files": tuple(int(table[i, 2]) for i in (0, -1)),
        "threads": tuple(int(table[i, 3]) for i in (0, -1)),
        "heartbeats": len(diagnostics.stamps),
        "missed": int(np.sum(np.diff(diagnostics.stamps) > HEARTBEAT_S)),
        "latency": diagnostics.percentiles("latency", 50, 95, 99),
        "end_to_end": percentiles(arrivals.end_to_end_ms(camera.sent), 50, 95, 99),
        "changes": len(changed),
        "refused": refused + sum(not future.done() for future in changed),
    }
    return row, table


def vitals(peer: Peer, process: psutil.Process, cpu_percent: float) -> list[float]:
    """One sample: the columns after `rss_mb`."""
    values = peer.diagnostics.values
    rates = (float(values.get(key, "nan")) for key in ("latency_p50_ms", "latency_p95_ms", "output_hz"))
    return [process.num_fds(), process.num_threads(), cpu_percent, *rates]


def every(seconds: float) -> Iterator[bool]:
    """True once per so many seconds, and not at once."""
    due = time.perf_counter() + seconds
    while True:
        is_due = time.perf_counter() >= due
        if is_due:
            due += seconds
        yield is_due


def growth_percent(seconds: NDArray[np.float64], rss: NDArray[np.float64]) -> float:
    """From the second minute to the last; of less than four minutes, from the second quarter to the last."""
    span = min(60.0, seconds[-1] / 4)
    early = rss[(seconds >= span) & (seconds < 2 * span)]
    late = rss[seconds >= seconds[-1] - span]
    return float(100 * (np.median(late) / np.median(early) - 1))


def draw(series: dict[str, Sequence[float]], path: Path) -> None:
    """Memory, files and threads, CPU and latency over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = (
        ("memory (MB)", ("rss_mb",)),
        ("open files, threads", ("files", "threads")),
        ("latency (ms)", ("latency_p50_ms", "latency_p95_ms")),
        ("CPU (% of a core)", ("cpu_percent",)),
    )
    for axes, (title, names) in zip(figure.subplots(len(panels), sharex=True), panels, strict=True):
        for name in names:
            axes.plot(series["seconds"], series[name], label=name)
        axes.set_title(title, loc="left")
        axes.set_ylim(0, 1.2 * max(max(series[name]) for name in names))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    axes.set_xlabel("seconds")
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
