"""Factors of single frames or pairs, made one of them over time."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

MAD_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation, at the normal distribution


class ScaleFilter:
    """Running median of the logarithm of single frames' factors.

    A factor that is out of line with the window is set aside; as many in a row as make a window known start a new one,
    since then the scene or the camera has changed. Frames without a factor leave everything as it is.
    """

    def __init__(self, window: int = 31, enough: int = 5) -> None:
        self._window: deque[float] = deque(maxlen=window)
        self._set_aside: list[float] = []
        self._enough = enough
        self._median, self._sigma = 0.0, math.nan

    @property
    def known(self) -> bool:
        """Whether there have been enough factors to trust their median."""
        return len(self._window) >= self._enough

    @property
    def factor(self) -> float:
        return math.exp(self._median)

    @property
    def relative_sigma(self) -> float:
        """Spread of the single factors (robust standard deviation), in parts of the factor."""
        return self._sigma

    def add(self, factor: float) -> None:
        value = math.log(factor)
        if self.known and abs(value - self._median) > max(4 * self._sigma, math.log(1.3)):
            self._set_aside.append(value)
            if len(self._set_aside) < self._enough:
                return
            self._window.clear()
            self._window.extend(self._set_aside)
        else:
            self._window.append(value)
        self._set_aside.clear()
        values = np.array(self._window)
        self._median = float(np.median(values))
        self._sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - self._median)))
