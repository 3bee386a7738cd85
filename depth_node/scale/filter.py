"""Factors of single frames or pairs of them, made one over time."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

MAD_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation, at the normal distribution

# What a network's depth of a frame is off by as a whole, in parts, though the road and the motion that a scale is
# learned from look the same: it does not show in the spread of the factors. docs/scale.md has what was measured.
NETWORK_SIGMA = 0.08


class ScaleFilter:
    """Running median of the logarithm of single factors.

    A factor that is out of line with the window is set aside; as much evidence in a row as makes a window known starts
    a new one, since then the scene or the camera has changed. What brings no factor leaves everything as it is.
    """

    def __init__(self, window: int = 31, enough: float = 5) -> None:
        self._window: deque[tuple[float, float]] = deque(maxlen=window)
        self._set_aside: list[tuple[float, float]] = []
        self._enough = enough
        self._median, self._spread = 0.0, math.nan

    @property
    def evidence(self) -> float:
        """Of the window, in parts of what is enough to trust its median."""
        return _evidence(self._window) / self._enough

    @property
    def known(self) -> bool:
        """Whether there is enough evidence to trust the median."""
        return self.evidence >= 1

    @property
    def count(self) -> int:
        """How many factors the window has."""
        return len(self._window)

    @property
    def factor(self) -> float:
        return math.exp(self._median)

    @property
    def spread(self) -> float:
        """Of the single factors (robust standard deviation), in parts of the factor."""
        return self._spread

    @property
    def relative_sigma(self) -> float:
        """Standard deviation of what the median is off by for a single frame, in parts of it."""
        return math.hypot(self._spread, NETWORK_SIGMA)

    def add(self, factor: float, evidence: float = 1.0) -> None:
        """One more factor, and how much it is worth: a window is known once its evidence adds up to `enough`."""
        value = math.log(factor)
        if self.known and abs(value - self._median) > max(4 * self._spread, math.log(1.3)):
            self._set_aside.append((value, evidence))
            if _evidence(self._set_aside) < self._enough:
                return
            self._window.clear()
            self._window.extend(self._set_aside)
        else:
            self._window.append((value, evidence))
        self._set_aside.clear()
        values = np.array([value for value, _ in self._window])
        self._median = float(np.median(values))
        self._spread = MAD_TO_SIGMA * float(np.median(np.abs(values - self._median)))


def _evidence(factors: deque[tuple[float, float]] | list[tuple[float, float]]) -> float:
    return sum(evidence for _, evidence in factors)
