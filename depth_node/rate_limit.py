"""Lets so many events per second through, evenly. No ROS."""

from __future__ import annotations

# An event this share of a period early still counts: cameras jitter, and a limit at their own rate must not halve it.
_SLACK = 0.25


class RateLimiter:
    """Admits at most `rate` events per second on average; never two within less than half a period."""

    def __init__(self) -> None:
        self._due = -float("inf")

    def admits(self, now: float, rate: float) -> bool:
        """Whether an event at `now` (seconds of a steady clock) is let through; a rate of 0 is no limit."""
        if rate <= 0:
            return True
        period = 1.0 / rate
        if now < self._due - _SLACK * period:
            return False
        # On the beat while events keep up with it, so that the mean is the rate; after a pause, a new beat.
        self._due = max(self._due, now - _SLACK * period) + period
        return True
