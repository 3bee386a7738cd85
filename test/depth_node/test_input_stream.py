"""Streams of stamps with known faults, and what the monitor says of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_node.input_stream import HEAVY_LOSS, LOSS_WINDOW_IMAGES, StampMonitor, StampReport, missing_images

START_NS = 1_700_000_000_123_456_789
PERIOD_NS = 33_333_333
HOUR_NS = 3_600_000_000_000

seeds = st.integers(0, 2**32 - 1)
periods = st.integers(1_000_000, 10_000_000_000)  # 1000 Hz to 0.1 Hz


def steady(images: int, period_ns: float = PERIOD_NS, seed: int = 0, jitter: float = 0.0) -> NDArray[np.int64]:
    """Stamps at a steady rate; jitter is the standard deviation in periods, cut off at four."""
    noise = np.random.default_rng(seed).normal(0, jitter, images).clip(-4 * jitter, 4 * jitter)
    return START_NS + np.rint((np.arange(images) + noise) * period_ns).astype(np.int64)


def lose(stamps: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], list[int]]:
    """Stamps without a random share of them, and how many each one lacks before it."""
    kept = np.flatnonzero(np.random.default_rng(seed).random(len(stamps)) >= share)
    return stamps[kept], [0, *(int(b - a) - 1 for a, b in pairwise(kept))]


def reports(stamps: Sequence[int] | NDArray[np.int64], missed: Sequence[int | None] | None = None) -> list[StampReport]:
    monitor = StampMonitor()
    return [monitor.add(int(s), m) for s, m in zip(stamps, missed or [None] * len(stamps), strict=True)]


def kinds(reported: Sequence[StampReport]) -> set[str]:
    return {report.kind for report in reported if report.kind is not None}


@given(period=periods, seed=seeds, jitter=st.floats(0, 0.1), share=st.floats(0, 0.03))
def test_steady_camera_with_jitter_and_few_losses_is_in_order(
    period: int, seed: int, jitter: float, share: float
) -> None:
    stamps, _ = lose(steady(200, period, seed, jitter), share, seed)
    assert kinds(reports(stamps)) == set()


@given(period=periods, seed=seeds, jitter=st.floats(0, 0.06), share=st.floats(0.33, 0.6))
def test_heavy_loss_is_seen_in_the_stamps(period: int, seed: int, jitter: float, share: float) -> None:
    stamps, missed = lose(steady(400, period, seed, jitter), share, seed)
    reported = reports(stamps)
    assert kinds(reported) == {"images_lost"}
    # A gap's length is known, so at most the longest run of gaps and the window's border make the share differ.
    for at in range(LOSS_WINDOW_IMAGES, len(stamps)):
        if (share_seen := reported[at].lost_share) > 0:
            lost = sum(missed[at - LOSS_WINDOW_IMAGES + 1 : at + 1])
            assert share_seen <= lost / (lost + LOSS_WINDOW_IMAGES) + 0.02
            assert reported[at].kind is None or share_seen > HEAVY_LOSS
    assert any(report.lost_share > share / 2 for report in reported)


def test_message_of_loss_names_the_share_and_the_transport() -> None:
    stamps, _ = lose(steady(400), 0.4, seed=1)
    message = next(report.message for report in reports(stamps) if report.kind == "images_lost")
    assert "% of the recent images" in message
    assert "config/fastdds.xml" in message
    assert "reliable" in message


def test_missing_images_are_counted_exactly() -> None:
    stamps, missed = lose(steady(61), 0.3, seed=3)
    differences = np.diff(stamps)
    expected = np.array(missed[1:])
    longest = max((run for run in "".join("g" if m else " " for m in expected).split()), key=len)
    counted = missing_images(differences)
    assert counted is not None
    left_out = expected - counted
    assert np.count_nonzero(left_out) == len(longest)
    assert (counted[left_out == 0] == expected[left_out == 0]).all()


@given(seed=seeds, spread=st.sampled_from([0.5, 0.7, 0.9]))
def test_variable_rate_is_no_loss(seed: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    uniform = np.cumsum(generator.uniform(1 - spread, 1 + spread, 150) * PERIOD_NS)
    exponential = np.cumsum(generator.exponential(PERIOD_NS, 150))
    for stamps in (uniform, exponential):
        assert kinds(reports(START_NS + np.rint(stamps).astype(np.int64))) == set()


@given(ratio=st.floats(1.0, 8.0), seed=seeds, before=st.integers(0, 150), is_faster=st.booleans())
def test_change_of_rate_is_no_loss(ratio: float, seed: int, before: int, is_faster: bool) -> None:
    """As a camera does whose exposure gets longer in the dark."""
    rates = np.concatenate([np.full(before, 1.0), np.full(100, ratio)])
    if is_faster:
        rates = rates[::-1]
    noise = np.random.default_rng(seed).normal(0, 0.02, len(rates)).clip(-0.08, 0.08)
    stamps = START_NS + np.rint((np.cumsum(rates) + noise) * PERIOD_NS).astype(np.int64)
    assert kinds(reports(stamps)) == set()


@given(pause_s=st.floats(0.4, 10_000), at=st.integers(1, 99))
def test_pause_is_no_loss(pause_s: float, at: int) -> None:
    """Of the camera, which publishes nothing, and of this process, which does not see what is published."""
    stamps = steady(100)
    stamps[at:] += int(pause_s * 1e9)
    missed = [0] * 100
    assert kinds(reports(stamps, missed)) == set()
    missed[at] = int(pause_s * 1e9) // PERIOD_NS
    assert kinds(reports(stamps, missed)) == set()
    assert kinds(reports(stamps)) == set()


@given(images=st.integers(10, 200), loops=st.integers(2, 4), jitter=st.floats(0, 0.05))
def test_looped_bag_is_said_once_a_loop_with_the_distance(images: int, loops: int, jitter: float) -> None:
    loop = steady(images, jitter=jitter)
    reported = reports(np.tile(loop, loops))
    said = [report for report in reported if report.kind is not None]
    assert [report.kind for report in said] == ["stamp_backward"] * (loops - 1)
    assert all(f"{(loop[-1] - loop[0]) / 1e9:.3f} s" in report.message for report in said)


def test_jump_back_forgets_the_losses_before() -> None:
    lossy, _ = lose(steady(400), 0.4, seed=5)
    monitor = StampMonitor()
    before = [monitor.add(int(stamp)) for stamp in lossy]
    assert before[-1].lost_share > HEAVY_LOSS
    after = [monitor.add(int(stamp - HOUR_NS)) for stamp in steady(100)]
    assert after[0].kind == "stamp_backward"
    assert kinds(after[1:]) == set()
    assert {report.lost_share for report in after} == {0.0}


@given(offset=st.integers(2 * PERIOD_NS, HOUR_NS), phase=st.floats(0, 1))
def test_two_clocks_on_one_topic_are_recognized(offset: int, phase: float) -> None:
    ours = steady(60)
    theirs = steady(60) + offset + int(phase * PERIOD_NS)
    reported = reports(np.column_stack([ours, theirs]).ravel())
    assert reported[-2].kind == "stamp_interleaved"
    assert "two publishers" in reported[-2].message
    assert kinds(reported) == {"stamp_backward", "stamp_interleaved"}


@given(phase=st.floats(0.001, 0.999), ratio=st.floats(1.0, 6.0), jitter=st.floats(0, 0.03), seed=seeds)
def test_two_publishers_on_one_clock_are_no_loss(phase: float, ratio: float, jitter: float, seed: int) -> None:
    ours = steady(150, PERIOD_NS, seed, jitter)
    theirs = steady(150, PERIOD_NS * ratio, seed + 1, jitter) + int(phase * PERIOD_NS)
    assert kinds(reports(np.unique(np.concatenate([ours, theirs])))) == set()


def test_zero_stamps() -> None:
    reported = reports([0, 0, *steady(3), 0, *steady(3)])
    assert [report.kind for report in reported] == ["stamp_zero"] * 2 + [None] * 3 + ["stamp_zero"] + [None] * 3
    assert "/clock" in reported[0].message


def test_stamps_that_stand_still() -> None:
    reported = reports([START_NS, START_NS, START_NS, START_NS + PERIOD_NS])
    assert [report.kind for report in reported] == [None, "stamp_repeated", "stamp_repeated", None]
    assert "1700000000.123 s" in reported[1].message


def test_publication_numbers_tell_loss_here_from_loss_upstream() -> None:
    stamps, missed = lose(steady(300), 0.4, seed=7)
    here = reports(stamps, missed)
    upstream = reports(stamps, [0] * len(stamps))
    assert kinds(here) == {"images_lost"}
    assert "between their publisher and this node" in next(r.message for r in here if r.kind)
    assert kinds(upstream) == {"images_lost_upstream"}
    window = missed[-LOSS_WINDOW_IMAGES:]
    lost = sum(window) - max(window)
    assert here[-1].lost_share == pytest.approx(lost / (lost + LOSS_WINDOW_IMAGES), abs=0.02)


@given(seed=seeds, share=st.floats(0.4, 0.95))
def test_publication_numbers_need_no_steady_rate(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    variable = START_NS + np.rint(np.cumsum(generator.exponential(PERIOD_NS, 2000)) + 1).astype(np.int64)
    stamps, missed = lose(np.unique(variable), share, seed)
    assert "images_lost" in kinds(reports(stamps, missed))


def test_few_images_are_not_judged() -> None:
    assert kinds(reports([START_NS, START_NS + 5 * PERIOD_NS], [0, 4])) == set()
