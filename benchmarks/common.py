"""What every benchmark shares: candidates timed in turns, a Markdown table, and out/bench/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

OUTPUT = Path(__file__).resolve().parents[1] / "out" / "bench"
LIBRARIES = ("numpy", "opencv-python-headless", "openvino", "onnxruntime", "torch", "ros-rclpy", "ros-fastrtps")


def time_in_turns(
    candidates: Mapping[str, Callable[[], object]], rounds: int, runs: int, clock: Callable[[], float] = perf_counter
) -> dict[str, np.ndarray]:
    """Seconds of every run per candidate: float64 [rounds, runs].

    Each round runs every candidate, so that whatever else the machine does meanwhile meets all of them alike. The first
    run of a turn is not counted: it finds caches that another candidate has filled.
    """
    seconds = {name: np.empty((rounds, runs)) for name in candidates}
    for turn in range(rounds):
        for name, candidate in candidates.items():
            candidate()
            for run in range(runs):
                started = clock()
                candidate()
                seconds[name][turn, run] = clock() - started
    return seconds


def speed_up(reference: np.ndarray, candidate: np.ndarray) -> float:
    """How many times faster the candidate is: median over rounds of the ratio of the rounds' medians."""
    return float(np.median(np.median(reference, axis=1) / np.median(candidate, axis=1)))


def smooth_image(width: int, height: int) -> NDArray[np.uint8]:
    """uint8 [1, height, width, 3] with structure at all but the finest scales, as a photograph has."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 40, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[None]


def machine() -> dict[str, Any]:
    """What the numbers were measured on and with."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def report(name: str, rows: Sequence[Mapping[str, Any]], **context: Any) -> Path:
    """Print rows as a Markdown table and write them with the machine and any context to out/bench/NAME.json."""
    print(markdown_table(rows))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.json"
    content = {"name": name, **context, "machine": machine(), "rows": [dict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\n{path}")
    return path


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row, columns as in the first one; numbers with four significant digits, tuples with slashes."""
    header = list(rows[0])
    cells = [header, *([_cell(row[column]) for column in header] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " / ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
