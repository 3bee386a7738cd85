"""Which frames are shown when there are more than the viewer is to have. No ROS."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED_STAMPS = 64
# A frame counts as due if it comes this much of a period too early: 10 Hz jitters, and is to pass a limit of 10 Hz.
EARLY = 0.2


class FrameSelector:
    """Admits frames at a limited rate, the same ones on every topic.

    max_rate: Hz; 0 admits all. clock: steady, in seconds.
    """

    def __init__(self, max_rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period = 1 / max_rate if max_rate > 0 else 0.0
        self._clock = clock
        self._next_due = -math.inf
        self._decisions: OrderedDict[int, tuple[bool, set[str]]] = OrderedDict()

    def admits(self, topic: str, stamp: int) -> bool:
        """Whether to show the message of `stamp` (ns) on `topic`: as was decided for that stamp, or its time has come.

        A stamp that comes twice on one topic is a new frame: of a clock that stands still, or a bag that began again.
        """
        decided = self._decisions.get(stamp)
        if decided is None or topic in decided[1]:
            decided = self._decide(), set()
            self._decisions[stamp] = decided
            self._decisions.move_to_end(stamp)
            if len(self._decisions) > REMEMBERED_STAMPS:
                self._decisions.popitem(last=False)
        decided[1].add(topic)
        return decided[0]

    def _decide(self) -> bool:
        now = self._clock()
        if now < self._next_due - EARLY * self._period:
            return False
        # On the grid of periods as long as frames keep up, so that jitter does not lower the rate.
        due = self._next_due + self._period
        self._next_due = due if due > now else now + self._period
        return True
