"""Counters, rates and percentiles on a clock that the test moves."""

from __future__ import annotations

import math
import threading

import pytest

from depth_node.statistics import RATE_WINDOW_S, WINDOW_FRAMES, Percentiles, Statistics


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_has_happened_yet(clock: Clock) -> None:
    snapshot = Statistics(clock).snapshot()
    assert (snapshot.frames_in, snapshot.frames_published, snapshot.frames_dropped) == (0, 0, 0)
    assert (snapshot.input_hz, snapshot.output_hz) == (0.0, 0.0)
    assert math.isnan(snapshot.latency.p50)
    assert math.isnan(snapshot.stamp_age.p50)
    assert snapshot.seconds_since_error == math.inf
    assert snapshot.last_error == ""


def test_latency_runs_from_receipt_to_publication(clock: Clock) -> None:
    """1, 2, ..., 100 ms: the percentiles of 100 values, interpolated between ranks."""
    statistics = Statistics(clock)
    for milliseconds in range(1, 101):
        received = clock.now
        clock.now += milliseconds / 1000
        statistics.frame_published(received, {"inference": milliseconds / 2000})
    latency = statistics.snapshot().latency
    assert (latency.p50, latency.p95, latency.p99) == pytest.approx((50.5, 95.05, 99.01))
    inference = statistics.snapshot().stages["inference"]
    assert (inference.p50, inference.p95, inference.p99) == pytest.approx((25.25, 47.525, 49.505))


def test_overhead_is_of_each_image(clock: Clock) -> None:
    """10, 2 and 15 ms beside inference of 20, 48 and 25 ms: the median is 10 ms; that of latency less inference, 15."""
    statistics = Statistics(clock)
    for overhead, inference in ((0.010, 0.020), (0.002, 0.048), (0.015, 0.025)):
        received = clock.now
        clock.now += overhead + inference
        statistics.frame_published(received, {"wait": 0.001, "inference": inference})
    assert statistics.snapshot().overhead.p50 == pytest.approx(10.0)


def test_stages_keep_their_order(clock: Clock) -> None:
    statistics = Statistics(clock)
    statistics.frame_published(clock.now, {"wait": 0.1, "decode": 0.2})
    statistics.frame_published(clock.now, {"decode": 0.2, "points": 0.3, "wait": 0.1})
    assert list(statistics.snapshot().stages) == ["wait", "decode", "points"]


def test_stamp_age_is_in_seconds_and_of_any_sign(clock: Clock) -> None:
    """-0.1, 0.0, 0.1 s and a clock that is off by 50 years; images without an age do not count."""
    statistics = Statistics(clock)
    for age in (-0.1, 0.0, None, 0.1):
        statistics.frame_received(stamp_age=age)
    assert statistics.snapshot().stamp_age.p50 == pytest.approx(0.0)
    for _ in range(WINDOW_FRAMES):
        statistics.frame_received(stamp_age=1.6e9)
    assert statistics.snapshot().stamp_age == Percentiles(1.6e9, 1.6e9, 1.6e9)


def test_rates_are_of_the_recent_past(clock: Clock) -> None:
    statistics = Statistics(clock)
    for _ in range(100):
        clock.now += 0.1
        statistics.frame_received()
    assert statistics.snapshot().input_hz == pytest.approx(10.0)
    assert statistics.input_hz == pytest.approx(10.0)
    clock.now += RATE_WINDOW_S + 0.01
    assert statistics.snapshot().input_hz == 0.0


def test_images_lost_before_they_were_seen_came_in_and_were_dropped(clock: Clock) -> None:
    statistics = Statistics(clock)
    for _ in range(11):
        statistics.frame_received(missed=1)
        clock.now += 0.2
    snapshot = statistics.snapshot()
    assert (snapshot.frames_in, snapshot.frames_dropped) == (22, 11)
    assert snapshot.input_hz == pytest.approx(10.0, rel=0.06)


def test_the_last_image_tells_whether_anybody_listens(clock: Clock) -> None:
    statistics = Statistics(clock)
    assert statistics.snapshot().is_wanted
    statistics.frame_unwanted()
    statistics.frame_skipped()
    assert not statistics.snapshot().is_wanted
    statistics.frame_faulty("step", "step of 3 bytes")
    assert statistics.snapshot().is_wanted
    statistics.frame_unwanted()
    statistics.frame_published(clock.now, {})
    assert statistics.snapshot().is_wanted


def test_every_image_is_counted_once(clock: Clock) -> None:
    statistics = Statistics(clock)
    ends = {
        "frames_published": lambda: statistics.frame_published(clock.now, {}),
        "frames_dropped": statistics.frame_dropped,
        "frames_unwanted": statistics.frame_unwanted,
        "frames_skipped": statistics.frame_skipped,
        "frames_faulty": lambda: statistics.frame_faulty("step", "step of 3 bytes"),
    }
    for times, end in enumerate(ends.values(), start=1):
        for _ in range(times):
            statistics.frame_received()
            end()
    statistics.error("resolution", "costs no image")
    snapshot = statistics.snapshot()
    assert {name: getattr(snapshot, name) for name in ends} == {name: n for n, name in enumerate(ends, start=1)}
    assert snapshot.frames_in == 1 + 2 + 3 + 4 + 5
    assert snapshot.errors == {"step": 5, "resolution": 1}


def test_events_at_one_moment_have_no_rate(clock: Clock) -> None:
    statistics = Statistics(clock)
    statistics.frame_received()
    statistics.frame_received()
    assert statistics.snapshot().input_hz == 0.0


def test_windows_are_bounded(clock: Clock) -> None:
    statistics = Statistics(clock)
    for _ in range(WINDOW_FRAMES):
        statistics.frame_published(clock.now - 1.0, {"inference": 1.0})
    for _ in range(WINDOW_FRAMES):
        statistics.frame_published(clock.now - 0.002, {"inference": 0.001})
    snapshot = statistics.snapshot()
    assert snapshot.latency.p99 == pytest.approx(2.0)
    assert snapshot.stages["inference"].p95 == pytest.approx(1.0)
    assert snapshot.frames_published == 2 * WINDOW_FRAMES


def test_errors_are_counted_by_kind_and_announced_once(clock: Clock) -> None:
    statistics = Statistics(clock)
    assert statistics.error("step", "step of 3 bytes") is True
    assert statistics.error("step", "step of 4 bytes") is False
    assert statistics.frame_faulty("step", "step of 5 bytes") is False
    assert statistics.frame_faulty("encoding", "encoding 'x'") is True
    clock.now += 3.0
    snapshot = statistics.snapshot()
    assert snapshot.errors == {"step": 3, "encoding": 1}
    assert snapshot.last_error == "encoding 'x'"
    assert snapshot.seconds_since_error == pytest.approx(3.0)


def test_threads_count_together() -> None:
    statistics = Statistics()

    def count() -> None:
        for _ in range(2000):
            statistics.frame_received()
            statistics.frame_dropped()
            statistics.frame_unwanted()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = statistics.snapshot()
    assert (snapshot.frames_in, snapshot.frames_dropped, snapshot.frames_unwanted) == (8000, 8000, 8000)
