"""`python -m training latency`: how long models take in each backend, in turns, so that differences can be believed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.backends import available_backends, create_backend
from depth_node.model import read_model
from training.command_line import run_function
from training.errors import DataError


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one inference of a model in a backend, resizing left out."""

    model: str
    backend: str
    precision: str
    device: str
    median: float
    fastest: float
    p95: float


def latency(models: list[Path], output: Path, rounds: int = 10, runs: int = 10, threads: int = 0) -> int:
    """Time models in all installed backends.

    Each round runs every model in every backend in turn, so that whatever else the machine does meets all of them
    alike; the first inference of a turn is not counted. Writes JSON with the machine and its load.

    Args:
        models: model files.
        output: JSON file to write.
        rounds: how often it is every model's turn.
        runs: timed inferences of a turn.
        threads: CPU threads; 0 leaves the number to the library.

    Raises:
        DataError: nothing is to be timed.
    """
    if not models or rounds < 1 or runs < 1:
        raise DataError(f"{len(models)} models, {rounds} rounds of {runs} runs: expected 1 or more of each")
    before = os.getloadavg()[0]
    timings = time_models(models, rounds, runs, threads)
    content = {
        "machine": {**machine(), "load_before": before, "load_after": os.getloadavg()[0]},
        "timings": [asdict(timing) for timing in timings],
    }
    output.write_text(json.dumps(content, indent=2) + "\n")
    for timing in timings:
        print(f"{timing.model}, {timing.backend} {timing.precision}: {timing.median:.1f} ms (p95 {timing.p95:.1f})")
    return 0


def time_models(models: Sequence[Path], rounds: int, runs: int, threads: int) -> list[Timing]:
    """Timings of every model in every backend, in the order of the models."""
    image = np.random.default_rng(0)
    loaded = []
    for path in models:
        model = read_model(path)
        shape = (1, model.spec.input_height, model.spec.input_width, 3)
        picture = image.integers(0, 256, shape, np.uint8)
        loaded += [(path.stem, picture, create_backend(model, name, threads=threads)) for name in available_backends()]
    inferences = [_inference(backend.infer, picture) for _, picture, backend in loaded]
    seconds = in_turns(inferences, rounds, runs)
    timings = []
    for (stem, _, backend), measured in zip(loaded, seconds, strict=True):
        median, p95 = (float(value) for value in np.percentile(measured, [50, 95]) * 1e3)
        fastest = float(measured.min() * 1e3)
        timings.append(Timing(stem, backend.name, backend.precision, backend.device, median, fastest, p95))
        backend.close()
    return timings


def in_turns(
    inferences: Sequence[Callable[[], object]], rounds: int, runs: int, clock: Callable[[], float] = perf_counter
) -> list[NDArray[np.float64]]:
    """Seconds of every run, [rounds * runs] for each of the inferences."""
    seconds: list[list[float]] = [[] for _ in inferences]
    for _ in range(rounds):
        for infer, measured in zip(inferences, seconds, strict=True):
            infer()  # finds caches that another one has filled
            for _ in range(runs):
                started = clock()
                infer()
                measured.append(clock() - started)
    return [np.array(measured) for measured in seconds]


def machine() -> Mapping[str, Any]:
    """What was measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "utc": datetime.now(timezone.utc).isoformat(timespec="minutes"),
    }


def main(arguments: Sequence[str]) -> int:
    """Run `latency` with options from the command line or a file."""
    return run_function(latency, arguments)


def _inference(infer: Callable[[NDArray[np.uint8]], object], picture: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: infer(picture)


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
