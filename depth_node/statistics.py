"""What the node counts and times: frames, errors by kind, rates, ages, latencies per stage. Thread-safe. No ROS."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# Percentiles and rates describe the recent past.
WINDOW_FRAMES = 500
RATE_WINDOW_S = 5.0


@dataclass(frozen=True)
class Percentiles:
    """p50, p95 and p99 of recent values; NaN where there were none."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Snapshot:
    """The statistics at one moment.

    frames_in: images that were sent to the node; those that are not in the next five counters are being worked on.
    frames_dropped: a newer one came before anybody began with them, or they were lost on the way here.
    frames_unwanted: nobody listened.
    frames_skipped: beyond the rate limit.
    frames_faulty: an error ended them; `errors` also counts errors that cost no image.
    is_wanted: whether somebody listened when the last image came up for work.
    stamp_age: from an image's stamp to its receipt, in seconds of the node's clock; negative for a camera whose clock
        is ahead.
    latency: from the receipt of an image to the publication of its last result, in milliseconds.
    overhead: that less the inference of the same image: what the node adds to it, in milliseconds.
    stages: duration of each stage in milliseconds, in the order in which they were first seen.
    seconds_since_error: infinite where there was none.
    """

    frames_in: int
    frames_published: int
    frames_dropped: int
    frames_unwanted: int
    frames_skipped: int
    frames_faulty: int
    is_wanted: bool
    errors: Mapping[str, int]
    last_error: str
    seconds_since_error: float
    input_hz: float
    output_hz: float
    stamp_age: Percentiles
    latency: Percentiles
    overhead: Percentiles
    stages: Mapping[str, Percentiles]


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


def percentiles(values: Sequence[float], scale: float = 1.0) -> Percentiles:
    """Linearly interpolated percentiles of values, multiplied by `scale`."""
    if not values:
        return Percentiles(*[float("nan")] * 3)
    p50, p95, p99 = np.percentile(values, [50, 95, 99]) * scale
    return Percentiles(float(p50), float(p95), float(p99))


def _window() -> deque[float]:
    return deque(maxlen=WINDOW_FRAMES)


@dataclass
class Statistics:
    """Counters and windows of one node. `clock` is a steady clock in seconds."""

    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _counts: Counter[str] = field(default_factory=Counter)
    _errors: Counter[str] = field(default_factory=Counter)
    _is_wanted: bool = True
    _last_error: tuple[float, str] = (-float("inf"), "")
    _input: Rate = field(default_factory=Rate)
    _output: Rate = field(default_factory=Rate)
    _stamp_age: deque[float] = field(default_factory=_window)
    _latency: deque[float] = field(default_factory=_window)
    _overhead: deque[float] = field(default_factory=_window)
    _stages: dict[str, deque[float]] = field(default_factory=dict)

    def frame_received(self, missed: int = 0, stamp_age: float | None = None) -> None:
        """An image came in, after `missed` others that the middleware dropped before anybody saw them.

        stamp_age: seconds from its stamp to now, of the node's clock.
        """
        with self._lock:
            self._counts["in"] += 1 + missed
            self._counts["dropped"] += missed
            self._input.add(self.clock(), 1 + missed)
            if stamp_age is not None:
                self._stamp_age.append(stamp_age)

    def frame_dropped(self) -> None:
        """A newer image took the place of one that nobody had begun with."""
        with self._lock:
            self._counts["dropped"] += 1

    def frame_unwanted(self) -> None:
        """Nobody listened, so an image was not looked at."""
        with self._lock:
            self._counts["unwanted"] += 1
            self._is_wanted = False

    def frame_skipped(self) -> None:
        """An image was beyond the rate limit, so it was not looked at."""
        with self._lock:
            self._counts["skipped"] += 1

    def frame_faulty(self, kind: str, message: str) -> bool:
        """An error that cost an image; otherwise as `error`."""
        with self._lock:
            self._counts["faulty"] += 1
            self._is_wanted = True
        return self.error(kind, message)

    def frame_published(self, received: float, stages: Mapping[str, float]) -> None:
        """The results of an image received at `received` (of `clock`) are out; `stages` in seconds."""
        with self._lock:
            now = self.clock()
            self._counts["published"] += 1
            self._is_wanted = True
            self._output.add(now)
            self._latency.append(now - received)
            self._overhead.append(now - received - stages.get("inference", 0.0))
            for name, seconds in stages.items():
                self._stages.setdefault(name, _window()).append(seconds)

    def error(self, kind: str, message: str) -> bool:
        """Something went wrong. Returns whether it is the first of its kind, which is worth a line in the log."""
        with self._lock:
            self._errors[kind] += 1
            self._last_error = (self.clock(), message)
            return self._errors[kind] == 1

    @property
    def input_hz(self) -> float:
        """As `Snapshot` has it, without the work of all the rest."""
        with self._lock:
            return self._input.value(self.clock())

    def snapshot(self) -> Snapshot:
        """Everything, at this moment."""
        with self._lock:
            now = self.clock()
            since, message = self._last_error
            counts, errors, is_wanted = self._counts.copy(), dict(self._errors), self._is_wanted
            input_hz, output_hz = self._input.value(now), self._output.value(now)
            stamp_age, latency, overhead = list(self._stamp_age), list(self._latency), list(self._overhead)
            stages = {name: list(window) for name, window in self._stages.items()}
        # Percentiles take milliseconds, for which nobody else should have to wait.
        return Snapshot(
            frames_in=counts["in"],
            frames_published=counts["published"],
            frames_dropped=counts["dropped"],
            frames_unwanted=counts["unwanted"],
            frames_skipped=counts["skipped"],
            frames_faulty=counts["faulty"],
            is_wanted=is_wanted,
            errors=errors,
            last_error=message,
            seconds_since_error=now - since,
            input_hz=input_hz,
            output_hz=output_hz,
            stamp_age=percentiles(stamp_age),
            latency=percentiles(latency, 1e3),
            overhead=percentiles(overhead, 1e3),
            stages={name: percentiles(window, 1e3) for name, window in stages.items()},
        )
