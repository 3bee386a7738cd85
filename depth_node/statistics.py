"""What the node counts and times: frames, errors by kind, rates, latencies per stage. Thread-safe. No ROS."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

# Percentiles and rates describe the recent past.
WINDOW_FRAMES = 500
RATE_WINDOW_S = 5.0


@dataclass(frozen=True)
class Percentiles:
    """p50, p95 and p99 of recent durations, in milliseconds; NaN where there were none."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Snapshot:
    """The statistics at one moment.

    frames_in: images that were sent to the node: published, dropped, unwanted (nobody listened) or faulty.
    latency: from the receipt of an image to the publication of its last result.
    stages_ms: median duration of each stage, in the order in which they were first seen.
    seconds_since_error: infinite where there was none.
    """

    frames_in: int
    frames_published: int
    frames_dropped: int
    frames_unwanted: int
    errors: Mapping[str, int]
    last_error: str
    seconds_since_error: float
    input_hz: float
    output_hz: float
    latency: Percentiles
    stages_ms: Mapping[str, float]


class Rate:
    """Events per second over the last `RATE_WINDOW_S`; 0 with fewer than two of them."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=WINDOW_FRAMES)

    def add(self, now: float, events: int = 1) -> None:
        """Events at `now` (seconds of a steady clock)."""
        self._times.extend([now] * min(events, WINDOW_FRAMES))

    def value(self, now: float) -> float:
        """Hertz at `now`."""
        while self._times and now - self._times[0] > RATE_WINDOW_S:
            self._times.popleft()
        span = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / span if span > 0 else 0.0


def percentiles(seconds: deque[float]) -> Percentiles:
    """Linearly interpolated percentiles of durations in seconds."""
    if not seconds:
        return Percentiles(*[float("nan")] * 3)
    p50, p95, p99 = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
    return Percentiles(float(p50), float(p95), float(p99))


@dataclass
class Statistics:
    """Counters and windows of one node. `clock` is a steady clock in seconds."""

    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _counts: Counter[str] = field(default_factory=Counter)
    _errors: Counter[str] = field(default_factory=Counter)
    _last_error: tuple[float, str] = (-float("inf"), "")
    _input: Rate = field(default_factory=Rate)
    _output: Rate = field(default_factory=Rate)
    _latency: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_FRAMES))
    _stages: dict[str, deque[float]] = field(default_factory=dict)

    def frame_received(self, missed: int = 0) -> None:
        """An image came in, after `missed` others that the middleware dropped before anybody saw them."""
        with self._lock:
            self._counts["in"] += 1 + missed
            self._counts["dropped"] += missed
            self._input.add(self.clock(), 1 + missed)

    def frame_dropped(self) -> None:
        """A newer image took the place of one that nobody had begun with."""
        with self._lock:
            self._counts["dropped"] += 1

    def frame_unwanted(self) -> None:
        """Nobody listened, so an image was not looked at."""
        with self._lock:
            self._counts["unwanted"] += 1

    def frame_published(self, received: float, stages: Mapping[str, float]) -> None:
        """The results of an image received at `received` (of `clock`) are out; `stages` in seconds."""
        with self._lock:
            now = self.clock()
            self._counts["published"] += 1
            self._output.add(now)
            self._latency.append(now - received)
            for name, seconds in stages.items():
                self._stages.setdefault(name, deque(maxlen=WINDOW_FRAMES)).append(seconds)

    def error(self, kind: str, message: str) -> bool:
        """Something went wrong. Returns whether it is the first of its kind, which is worth a line in the log."""
        with self._lock:
            self._errors[kind] += 1
            self._last_error = (self.clock(), message)
            return self._errors[kind] == 1

    def snapshot(self) -> Snapshot:
        """Everything, at this moment."""
        with self._lock:
            now = self.clock()
            since, message = self._last_error
            return Snapshot(
                frames_in=self._counts["in"],
                frames_published=self._counts["published"],
                frames_dropped=self._counts["dropped"],
                frames_unwanted=self._counts["unwanted"],
                errors=dict(self._errors),
                last_error=message,
                seconds_since_error=now - since,
                input_hz=self._input.value(now),
                output_hz=self._output.value(now),
                latency=percentiles(self._latency),
                stages_ms={name: percentiles(window).p50 for name, window in self._stages.items()},
            )
