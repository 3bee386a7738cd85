"""The rate limit against arithmetic."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node.rate_limit import RateLimiter


def admitted(times: list[float], rate: float) -> list[float]:
    limiter = RateLimiter()
    return [now for now in times if limiter.admits(now, rate)]


def test_no_limit_admits_everything() -> None:
    assert len(admitted([0.0, 0.0, 0.001], 0.0)) == 3


@pytest.mark.parametrize(("rate_in", "limit", "rate_out"), [(30, 10, 10), (30, 20, 20), (30, 7, 7), (10, 30, 10)])
def test_mean_rate_is_the_limit(rate_in: int, limit: float, rate_out: float) -> None:
    assert len(admitted([n / rate_in for n in range(60 * rate_in)], limit)) / 60 == pytest.approx(rate_out, abs=0.05)


def test_jitter_at_the_limit_loses_nothing() -> None:
    times = [n / 10 + (-1) ** n * 0.01 for n in range(1000)]
    assert len(admitted(times, 10.0)) == 1000


def test_after_a_pause_there_is_no_burst() -> None:
    limiter = RateLimiter()
    assert limiter.admits(0.0, 1.0)
    assert limiter.admits(100.0, 1.0)
    assert not any(limiter.admits(100.0 + n * 0.01, 1.0) for n in range(1, 50))  # half a second: half a period


@given(
    gaps=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=300),
    limit=st.floats(0.5, 50.0),
)
def test_never_more_than_the_limit(gaps: list[float], limit: float) -> None:
    times = [sum(gaps[:n]) for n in range(1, len(gaps) + 1)]
    passed = admitted(times, limit)
    assert all(later - earlier >= 0.5 / limit - 1e-9 for earlier, later in pairwise(passed))
    assert len(passed) <= (times[-1] - times[0]) * limit + 1.5
